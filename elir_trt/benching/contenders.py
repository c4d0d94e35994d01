"""The same model run by others: PyTorch as it is and compiled, ONNX Runtime, and OpenVINO as it is.

Each takes and gives what a stream does, ``[H, W, 3]`` uint8, with the stream's own noise, and converts by itself.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elir_trt import _core
from elir_trt.backends.base import Array, Run
from elir_trt.bundle import Bundle
from elir_trt.cpu import available_cpus
from elir_trt.errors import ElirError
from elir_trt.extras import install_command
from elir_trt.parts import PARTS, part_tensors
from elir_trt.reference import euler_latents, to_image

Image = npt.NDArray[np.uint8]
#: Restores a frame with so many steps.
Restore = Callable[[Image, int], Image]
Say = Callable[[str], None]

EAGER = {"PyTorch float32": False, "PyTorch bfloat16, channels last": True}
COMPILED = "torch.compile"
ONNX_RUNTIME = "ONNX Runtime float32"
OPENVINO = "OpenVINO, its defaults"


@dataclass
class Peers:
    """Who takes part.

    Attributes:
        restores: by name.
        absent: why others do not.
        random: weights are random: times carry over to trained ones, what comes out does not.
    """

    restores: dict[str, Restore] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    random: bool = False


def find_peers(bundle: Bundle, weights: Path | None, frame: Image, say: Say) -> Peers:
    """Make everything ready that can run the model of a bundle here.

    Args:
        bundle: not released.
        weights: the checkpoint that the bundle was built of; None: random weights.
        frame: of the size of frames to come, to warm up with.
        say: is called with what is being done.

    Raises:
        ElirError: the checkpoint is another one.
    """
    peers = Peers(random=weights is None)
    if importlib.util.find_spec("torch") is None:
        reason = f"PyTorch, which makes the model, is not installed: {install_command('export')}"
        peers.absent = dict.fromkeys((*EAGER, COMPILED, ONNX_RUNTIME, OPENVINO), reason)
        return peers
    model = _model_of(bundle, weights)
    _add_torch(peers, model, bundle, frame, say)
    _add_files(peers, model, bundle, frame, say)
    return peers


def _model_of(bundle: Bundle, weights: Path | None) -> Any:
    import torch

    from elir_trt.building.builder import file_digest
    from elir_trt.model import Elir, load_model

    architecture = bundle.recipe.architecture
    if weights is None:
        torch.manual_seed(0)
        return Elir(architecture).eval().requires_grad_(False)
    expected, found = bundle.manifest.specification.checkpoint, file_digest(weights)
    if found != expected:
        raise ElirError(
            f"{weights}: its SHA-256 is {found[:12]}..., the bundle was built of {expected[:12]}...; give that "
            "checkpoint, or none to compare times with random weights"
        )
    return load_model(weights, architecture).eval().requires_grad_(False)


def _noise(bundle: Bundle, frame: Image) -> Array:
    architecture = bundle.recipe.architecture
    height, width = (side // architecture.downscale for side in frame.shape[:2])
    field_: Array = _core.noise_field(0, architecture.latent_channels, height, width)
    return field_[None]


def _add_torch(peers: Peers, model: Any, bundle: Bundle, frame: Image, say: Say) -> None:
    import torch

    torch.set_num_threads(available_cpus())
    noise = torch.from_numpy(_noise(bundle, frame))
    sigma = bundle.recipe.sigma

    def runs(restore: Any, half: bool) -> Restore:
        def run(frame: Image, steps: int) -> Image:
            x = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
            if half:
                x = x.to(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                y = restore(x, steps=steps, sigma=sigma, noise=noise)
            restored: Image = (
                (255 * y[0].float()).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            )
            return restored

        return run

    wide = model
    narrow = copy.deepcopy(model).to(memory_format=torch.channels_last)
    steps = bundle.recipe.default_steps
    seconds = {}
    for name, half in EAGER.items():
        say(name)
        peers.restores[name] = runs((narrow if half else wide).restore, half)
        peers.restores[name](frame, steps)
        began = time.perf_counter()
        peers.restores[name](frame, steps)
        seconds[half] = time.perf_counter() - began
    half = seconds[True] < seconds[False]
    say(COMPILED)
    compiled = runs(torch.compile((narrow if half else wide).restore), half)
    name = f"{COMPILED} {'bfloat16, channels last' if half else 'float32'}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled(frame, steps)
    except Exception as error:  # Whatever a compiler that is not there, or too old, says.
        lines = str(error).splitlines() or [type(error).__name__]
        peers.absent[name] = f"it does not run here: {lines[0][:200]}"
    else:
        peers.restores[name] = compiled


def _add_files(peers: Peers, model: Any, bundle: Bundle, frame: Image, say: Say) -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{missing[0]}, which writes the model, is not installed: {install_command('export')}"
        peers.absent.update(dict.fromkeys((ONNX_RUNTIME, OPENVINO), reason))
        return
    from elir_trt.building.export import export_part

    files = {}
    for part in PARTS:
        say(f"exporting the {part}")
        height, width = frame.shape[:2]
        files[part] = export_part(model, part, size=(height, width)).data
    for name, package, opened in (
        (ONNX_RUNTIME, "onnxruntime", _onnx_runtime),
        (OPENVINO, "openvino", _openvino),
    ):
        if importlib.util.find_spec(package) is None:
            peers.absent[name] = f"{package} is not installed: pip install {package}"
            continue
        say(name)
        runs = {part: opened(data, part, bundle) for part, data in files.items()}
        peers.restores[name] = _through(runs, bundle, _noise(bundle, frame))
        peers.restores[name](frame, bundle.recipe.default_steps)


def _through(runs: Mapping[str, Run], bundle: Bundle, noise: Array) -> Restore:
    """A frame through four parts, with what lies between them in NumPy."""
    start = np.float32(bundle.recipe.sigma) * noise

    def restore(frame: Image, steps: int) -> Image:
        image = to_image(frame)
        latent = runs["coarse"]({"encoded": runs["encoder"]({"image": image})})
        if steps:
            *_, latent = euler_latents(runs["velocity"], latent + start, bundle.condition_rows(steps))
        decoded = runs["decoder"]({"latent": latent, "image": image})
        levels = np.rint(255 * np.clip(decoded[0], 0.0, 1.0)).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    return restore


def _onnx_runtime(data: bytes, part: str, bundle: Bundle) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names, output = part_tensors(part, bundle.recipe.architecture)

    def run(feed: Mapping[str, Array]) -> Array:
        found: Array = session.run([output], {name: feed[name] for name in names})[0]
        return found

    return run


def _openvino(data: bytes, part: str, bundle: Bundle) -> Run:
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(data)), "CPU")
    names, _ = part_tensors(part, bundle.recipe.architecture)

    def run(feed: Mapping[str, Array]) -> Array:
        found: Array = compiled({name: feed[name] for name in names})[0]
        return found

    return run
