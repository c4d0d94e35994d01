"""Verifying a bundle: its engines against float32, part by part and as a whole, where they run.

The float32 parts are in the bundle: the CPU's engines, run in float32, or a copy that was kept for this. Every part
is given what the bundle's own parts before it made, so that each answers for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from elir_trt import backends
from elir_trt.backends import Run
from elir_trt.backends.base import Array
from elir_trt.bundle import Bundle, find_bundle
from elir_trt.errors import BundleError, ElirWarning
from elir_trt.files import write_whole
from elir_trt.metrics import psnr, ssim
from elir_trt.parts import OUTPUTS, PARTS, part_shapes
from elir_trt.reference import noise_of, restore
from elir_trt.restorer import Restorer
from elir_trt.restorer import open as open_restorer
from elir_trt.samples import load_samples
from elir_trt.tolerances import PART_BOUNDS, PIPELINE_BOUNDS, PartPrecision

Frame = npt.NDArray[np.uint8]
#: How much the picture of the worst frame multiplies differences.
AMPLIFIED = 10


@dataclass(frozen=True)
class PartCheck:
    """One part: its precision, its mean relative error against float32, and how much is allowed."""

    part: str
    precision: PartPrecision
    relative_error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether it is near enough; NaN is not."""
        return self.relative_error <= self.bound


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        backend, device: what ran the engines.
        parts: of each part.
        psnr, ssim: of restored frames against float32, the mean over frames; PSNR in dB.
        least: PSNR that is asked of them.
        worst_psnr: of the worst frame.
        picture: that frame: what went in, what came out, what float32 makes of it, and their difference amplified;
            ``[H, 4 * W, 3]`` uint8.
    """

    backend: str
    device: str
    parts: tuple[PartCheck, ...]
    psnr: float
    ssim: float
    least: float
    worst_psnr: float
    picture: Frame

    @property
    def passed(self) -> bool:
        """Whether all parts and the whole are near enough."""
        return all(check.passed for check in self.parts) and self.psnr >= self.least


def verify(
    name_or_bundle: str | Path,
    *,
    data: Path | Sequence[npt.NDArray[Any]] | None = None,
    backend: str = "auto",
    device: str = "auto",
    frames: int = 4,
    seed: int = 7,
) -> Verification:
    """Run a bundle's engines and its float32 parts on the same frames, and compare.

    Args:
        name_or_bundle: as for :func:`elir_trt.open`.
        data: clean pictures, degraded as the task's are: a folder, an image, a video, or arrays ``[H, W, 3]``. None:
            procedural ones.
        backend, device: as for :func:`elir_trt.open`; what is refused is raised.
        frames: how many frames to run, at least 4.
        seed: of crops, degradations and noise.

    Raises:
        BundleError: the bundle has no float32 parts to compare with.
        CalibrationError: the pictures are too few or no pictures.
    """
    bundle = Bundle(find_bundle(name_or_bundle))
    size = bundle.manifest.specification.size
    references = {part: _reference(bundle, part, size) for part in PARTS}
    found = load_samples(bundle.recipe, size, data, count=max(4, frames), seed=seed)
    # A task that scales up takes frames that are smaller by as much.
    scale = bundle.recipe.prepare.scale
    given = [np.ascontiguousarray(frame[::scale, ::scale]) for frame in (*found.held_out, *found.frames)]
    with open_restorer(name_or_bundle, backend=backend, device=device, on_engine_error="raise") as restorer:
        precisions = _precisions(bundle, restorer)
        errors = _part_errors(restorer, references, given, seed)
        pairs = _pipeline(restorer, references, given, seed)
    parts = tuple(
        PartCheck(part, precisions[part], errors[part], PART_BOUNDS[precisions[part]]) for part in PARTS
    )
    values = [min(psnr(expected, restored), 120.0) for _, restored, expected in pairs]
    worst = int(np.argmin(values))
    return Verification(
        backend=restorer.engines.name,
        device=restorer.engines.device,
        parts=parts,
        psnr=float(np.mean(values)),
        ssim=float(np.mean([ssim(expected, restored) for _, restored, expected in pairs])),
        least=_least(bundle, restorer, precisions),
        worst_psnr=values[worst],
        picture=_picture(*pairs[worst]),
    )


def _precisions(bundle: Bundle, restorer: Restorer) -> dict[str, PartPrecision]:
    if restorer.choice is not None:
        return dict(restorer.choice.precisions)
    whole = restorer.engines.precision
    found: dict[str, PartPrecision] = {}
    for part, precision in bundle.precisions(restorer.engines.name).items():
        # Where nothing was chosen part by part, the backend's one precision is that of all.
        found[part] = precision or ("fp32" if whole == "fp32" else "bf16" if whole == "bf16" else "fp16")
    return found


def _least(bundle: Bundle, restorer: Restorer, precisions: dict[str, PartPrecision]) -> float:
    """What the bundle had when it was built, less 6 dB for other frames, or what its precisions allow."""
    built = bundle.manifest.pipelines.get(restorer.engines.name)
    allowed = min(PIPELINE_BOUNDS[precision] for precision in precisions.values())
    if bundle.manifest.gate is not None:
        allowed = max(allowed, bundle.manifest.gate.min_psnr - 6.0)
    return allowed if built is None else max(allowed, built.psnr - 6.0)


def _reference(bundle: Bundle, part: str, size: tuple[int, int]) -> Run:
    content = bundle.read_reference(part)
    if content is None:
        raise BundleError(
            f"{bundle.path}: has no float32 {part} to verify against; build the bundle again with this version"
        )
    shapes = part_shapes(bundle.recipe.architecture, size, bundle.condition_width)
    return backends.reference().reference_runner(content, part, shapes)


def _part_errors(
    restorer: Restorer, references: dict[str, Run], frames: Sequence[Frame], seed: int
) -> dict[str, float]:
    errors: dict[str, list[float]] = {part: [] for part in PARTS}
    row = restorer.bundle.condition_rows(1)
    names = ("image", "encoded", "coarse", "latent", "velocity", "decoded")
    with restorer.stream(depth=1, steps=1, seed=seed, size=frames[0].shape[:2]) as stream:
        for frame in frames:
            stream.submit(frame)
            stream.result()
            tensors = {name: stream.read_tensor(name) for name in names}
            begun = tensors["coarse"] + np.float32(restorer.recipe.sigma) * noise_of(tensors["coarse"], seed)
            feeds: dict[str, dict[str, Array]] = {
                "encoder": {"image": tensors["image"]},
                "coarse": {"encoded": tensors["encoded"]},
                "velocity": {"latent": begun, "condition": row},
                "decoder": {"latent": tensors["latent"], "image": tensors["image"]},
            }
            for part, feed in feeds.items():
                right = references[part](feed)
                difference = np.linalg.norm(tensors[OUTPUTS[part]].astype(np.float64) - right)
                errors[part].append(float(difference) / max(float(np.linalg.norm(right)), 1e-30))
    return {part: float(np.mean(values)) for part, values in errors.items()}


def _pipeline(
    restorer: Restorer, references: dict[str, Run], frames: Sequence[Frame], seed: int
) -> list[tuple[Frame, Frame, Frame]]:
    recipe, found = restorer.recipe, []
    for steps in sorted({recipe.default_steps, recipe.steps}):
        rows = restorer.bundle.condition_rows(steps)
        with restorer.stream(depth=1, steps=steps, seed=seed, size=frames[0].shape[:2]) as stream:
            runs = []
            for frame in frames:
                stream.submit(frame)
                runs.append((stream.result().frame, stream.read_tensor("image")))
        for frame, (restored, image) in zip(frames, runs, strict=True):
            decoded = restore(references, image, rows, sigma=recipe.sigma, seed=seed)
            expected = np.rint(255 * decoded[0].transpose(1, 2, 0)).astype(np.uint8)
            found.append((frame, restored, expected))
    return found


def _picture(given: Frame, restored: Frame, expected: Frame) -> Frame:
    difference = restored.astype(np.int32) - expected.astype(np.int32)
    if given.shape != restored.shape:
        height, width = restored.shape[:2]
        given = np.asarray(cv2.resize(given, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    amplified = np.clip(128 + AMPLIFIED * difference, 0, 255).astype(np.uint8)
    return np.concatenate([given, restored, expected, amplified], axis=1)


def write_picture(picture: Frame, path: Path) -> None:
    """Write the picture of the worst frame as a PNG, whole or not at all."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    if not done:  # pragma: no cover
        warnings.warn(f"{path}: the picture could not be encoded", ElirWarning, stacklevel=2)
        return
    write_whole(path, data.tobytes())
