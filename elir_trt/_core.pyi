"""The C++ core: frame slots, the stages of a frame, and their order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

class Closed(Exception):
    """The stream takes no more frames, or has no more results."""

class Result:
    """What came back for a frame."""

    @property
    def frame(self) -> Any:
        """``[H, W, 3]`` uint8, or None if the frame failed."""
    @property
    def index(self) -> int: ...
    @property
    def timestamp(self) -> float | None: ...
    @property
    def steps(self) -> int: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds of each stage, summed over tiles and steps."""
    @property
    def error(self) -> tuple[str, str] | None:
        """The stage that failed and why."""

class PixelFormat:
    """How the bytes of frames are to be read: a row of the table."""

    @property
    def name(self) -> str:
        """FFmpeg's name."""
    @property
    def depth(self) -> int:
        """Bits of a component."""
    @property
    def shift(self) -> int:
        """Bits below a component in its word."""
    @property
    def dtype(self) -> str:
        """Type of an array's numbers: "uint8" or "uint16"."""
    @property
    def channels(self) -> int:
        """Components side by side: 3, 4, or 1; 0 where there are planes of luma and chroma."""
    @property
    def planes(self) -> int:
        """Planes of a frame, 1 to 3."""
    @property
    def subsampling(self) -> tuple[int, int]:
        """Rows and columns of pixels that share a sample of chroma; (1, 1) without subsampling."""

def formats() -> list[PixelFormat]:
    """The formats of frames and results."""

class DeviceArray:
    """Memory of a device, complete, for other libraries: DLPack, and ``__cuda_array_interface__`` on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str:
        """Type of its numbers: "uint8", "uint16", "float32", "float16" or "bfloat16"."""
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Stream:
    """A ring of frame slots and a worker that runs the stages of each frame."""

    def __init__(
        self,
        *,
        frame_height: int,
        frame_width: int,
        engine_height: int,
        engine_width: int,
        scaled_height: int,
        scaled_width: int,
        scale_y: float,
        scale_x: float,
        interpolation: str,
        tiles: Sequence[tuple[int, int]],
        downscale: int,
        latent_channels: int,
        sigma: float,
        steps: int,
        table: npt.NDArray[np.float32],
        seed: int = 0,
        noise: str = "fixed",
        depth: int = 3,
        drop: str = "block",
        format: str = "rgb24",
        output_format: str = "rgb24",
        matrix: str = "bt709",
        full_range: bool = False,
        results: str = "host",
        element: str = "float32",
        device: str = "cpu",
        ordinal: int = 0,
        record: bool = True,
        frames: str = "auto",
        batch: int = 1,
    ) -> None:
        """Allocate everything. ValueError names an argument that is wrong, what was found and what is allowed.

        Args:
            steps: of frames that are submitted without a number of their own.
            table: ``[max_steps * (max_steps + 1) / 2, condition_width]``: rows for each number of steps K from 1
                on, those of K from row K * (K - 1) / 2 on.
            format, output_format: of frames and results: names of :func:`formats`.
            matrix: of luma and chroma: "bt601" or "bt709".
            full_range: of luma and chroma.
            results: "host" or "device": who owns the memory of results.
            element: type of the parts' tensors; the device "cpu" has "float32" alone.
            device: "cpu" or "cuda"; RuntimeError says why there is no such device.
            ordinal: number of the CUDA device.
            record: record a frame as a CUDA graph and replay it.
            frames: of the CUDA device: "copied" to and from the GPU, "mapped" to be read and written in place, or
                "auto": mapped where the GPU shares the CPU's memory.
            batch: tiles that the engines take together, 1 to 64: the first side of every tensor but ``condition``.
        """
    def view(self, name: str) -> DeviceArray:
        """A part's tensor, without a copy, on any device; it stays valid when the stream is gone."""
    def buffer(self, name: str) -> npt.NDArray[np.float32]:
        """A view of a part's tensor; it stays valid when the stream is gone."""
    def read(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of that tensor's numbers, from any device; of the last frame, when no other is in work."""
    def address(self, name: str) -> int:
        """Where that tensor lies."""
    def shape(self, name: str) -> list[int]:
        """That tensor's shape."""
    def element(self, name: str) -> str:
        """Type of that tensor's numbers."""
    def reserve(self, bytes: int) -> int:
        """Address of memory of the device that lives as long as the stream."""
    @property
    def execution_mode(self) -> str:
        """How frames are run: "eager", "graph" (recorded once, replayed), or "eager: " and why not recorded."""
    def set_part(self, part: str, callable: Callable[[int], None]) -> None:
        """Set what runs a part; it is called with the device's stream handle."""
    def set_noise(self, field: npt.NDArray[np.float32]) -> None:
        """Replace the fixed noise: ``[latent_channels, h, w]`` of the whole frame, standard normal."""
    def start(self) -> None: ...
    def submit(
        self,
        frame: Any,
        timestamp: float | None = None,
        steps: int | None = None,
        timeout: float | None = None,
    ) -> int | None:
        """Hand in a frame; ``steps``: for this one, None: the stream's."""
    def submit_planes(
        self,
        planes: Sequence[tuple[int, int]],
        owner: Any = None,
        stream: int | None = None,
        timestamp: float | None = None,
        steps: int | None = None,
        timeout: float | None = None,
    ) -> int | None:
        """Hand in a frame as the address and the pitch, in bytes, of each plane, in memory of the device.

        Args:
            owner: kept until the frame's result was collected; on the CPU the planes are copied at once.
            stream: CUDA stream that the planes are made on; None: they are complete.
        """
    def result(self, timeout: float | None = None, out: npt.NDArray[Any] | None = None) -> Result: ...
    def close(self) -> None:
        """Take no more frames; those in the ring are finished."""
    def abort(self) -> None:
        """Close, forget what has not begun, and wait for the worker."""
    def stats(self) -> dict[str, Any]: ...

MAX_DEPTH: int
"""Most slots of a stream's ring."""

def compiled_devices() -> list[str]:
    """Devices that this build has, usable here or not."""

def devices() -> list[str]:
    """Devices that are usable here."""

def cuda_problem() -> str:
    """Why there is no usable CUDA device; empty if there is one."""

def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """One block of Philox4x32-10."""

def noise_field(seed: int, channels: int, height: int, width: int, frame: int = 0) -> npt.NDArray[np.float32]:
    """The noise of a latent of ``[channels, height, width]``; ``frame`` 0: noise that stays."""
