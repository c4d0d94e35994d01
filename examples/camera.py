"""Restore a live camera in a window: ``python examples/camera.py [number]``; q ends it.

Needs OpenCV with windows (``pip install opencv-python``).
"""

from __future__ import annotations

import sys
import threading

import cv2
import numpy as np

import elir_trt


def main(number: int) -> None:
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        sys.exit(f"camera {number} does not open")
    with elir_trt.open("camera", order="bgr") as restorer:
        # When frames come faster than they are restored, the oldest is given up: the picture is never late.
        stream = restorer.stream(depth=2, drop="oldest")
        stop = threading.Event()

        def capture() -> None:
            while not stop.is_set():
                ok, frame = camera.read()
                if not ok:
                    break
                stream.submit(np.asarray(frame, dtype=np.uint8))

        thread = threading.Thread(target=capture)
        thread.start()
        try:
            while cv2.waitKey(1) != ord("q"):
                try:
                    result = stream.result(timeout=1.0)
                except TimeoutError:
                    if thread.is_alive():
                        continue
                    break
                cv2.imshow(f"{restorer.recipe.title} (q ends)", result.frame)
        finally:
            stop.set()
            thread.join()
            print(stream.stats())
            stream.close()
            camera.release()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
