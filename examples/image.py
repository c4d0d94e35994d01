"""Restore one image file: ``python examples/image.py photo.jpg restored.png``."""

from __future__ import annotations

import sys

import cv2

import elir_trt


def main(source: str, target: str) -> None:
    image = cv2.imread(source)
    if image is None:
        sys.exit(f"{source}: not an image")
    # OpenCV has blue first; the restorer swaps while it loads, at no cost.
    with elir_trt.open("camera", order="bgr") as restorer:
        cv2.imwrite(target, restorer(image))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
