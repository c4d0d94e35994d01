"""The restorer as a model of Triton's Python back end: what ``model.py`` of an exported repository imports.

Triton gathers requests for frames of one size; all frames of all requests go through one stream, so that one is
uploaded and another downloaded while a third is restored. A request that fails does not fail others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt.errors import ElirError
from elir_trt.restorer import open as open_bundle
from elir_trt.serving.repository import BUNDLE, DEVICE, INPUT, OUTPUT, STEPS
from elir_trt.stream import Stream

#: Frames in a stream's ring.
_DEPTH = 3
#: Streams that are kept, one a size; the one that was used longest ago is closed for another.
_STREAMS = 4


class TritonPythonModel:
    """Triton calls ``initialize``, ``execute`` and ``finalize``."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle that lies beside ``model.py``."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {key: value["string_value"] for key, value in parameters.items()}
        folder = Path(args["model_repository"]) / args["model_version"] / BUNDLE
        self._restorer = open_bundle(folder, device=given.get(DEVICE) or "auto")
        steps = given.get(STEPS)
        self._steps = int(steps) if steps else None
        self._streams: dict[tuple[int, int], Stream] = {}

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Restore the frames of all requests, and answer each."""
        import triton_python_backend_utils as triton

        answers: list[Any] = []
        for request in requests:
            try:
                # By DLPack both ways: servers that were built for NumPy 1 take NumPy 2's arrays for others.
                frames: Any = np.from_dlpack(triton.get_input_tensor_by_name(request, INPUT))
                restored = triton.Tensor.from_dlpack(OUTPUT, self._restore(frames))
                answers.append(triton.InferenceResponse(output_tensors=[restored]))
            except (ElirError, ValueError) as error:
                answers.append(triton.InferenceResponse(error=triton.TritonError(str(error))))
        return answers

    def finalize(self) -> None:
        """Close everything."""
        for stream in self._streams.values():
            stream.close()
        self._restorer.close()

    def _restore(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Restore frames ``[N, H, W, 3]``."""
        if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise ValueError(f"{INPUT} is of shape {list(frames.shape)}; expected [N, H, W, 3]")
        stream = self._stream((frames.shape[1], frames.shape[2]))
        return np.stack([result.frame for result in stream.map(iter(frames))])

    def _stream(self, size: tuple[int, int]) -> Stream:
        stream = self._streams.pop(size, None)
        if stream is None:
            if len(self._streams) >= _STREAMS:
                self._streams.pop(next(iter(self._streams))).close()
            stream = self._restorer.stream(depth=_DEPTH, steps=self._steps, size=size)
        self._streams[size] = stream
        return stream
