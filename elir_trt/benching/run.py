"""A bundle measured on this machine, alone and beside its peers: one report, as JSON has it."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import elir_trt
from elir_trt import backends
from elir_trt.benching.contenders import Image, Restore, find_peers
from elir_trt.benching.energy import measured_energy
from elir_trt.benching.statistics import histogram, jitter, percentiles, spread
from elir_trt.bundle import Bundle
from elir_trt.cpu import available_cpus, cpu_model
from elir_trt.errors import MissingPackageError
from elir_trt.gpu import find_gpu
from elir_trt.memory import resident_bytes
from elir_trt.metrics import psnr, ssim
from elir_trt.parts import DIRECT, PARTS
from elir_trt.restorer import Restorer
from elir_trt.samples import Samples, load_samples
from elir_trt.tuning.measure import describe

Say = Callable[[str], None]
#: The row of this package.
OURS = "elir_trt"
#: Frames that a latency is measured with at most, so that its p99.9 is one.
FRAMES = 1000
#: Packages whose versions are told.
_PACKAGES = ("numpy", "openvino", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx")
#: PSNR of equal images, which have none.
_EQUAL_DB = 120.0


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        bundle: a bundle's folder, or a task.
        weights: the checkpoint of it, for the peers; None: random ones.
        data: clean pictures, which are degraded as the task's are; None: procedural ones.
        size: height and width of frames; None: the bundle's.
        rounds: of all contenders in turns.
        seconds: of each of the two runs of the stream alone.
        peers: whether others are measured too.
        device, backend: see :func:`elir_trt.open`.
    """

    bundle: str
    weights: Path | None = None
    data: Path | None = None
    size: tuple[int, int] | None = None
    rounds: int = 7
    seconds: float = 30.0
    peers: bool = True
    device: str = "auto"
    backend: str = "auto"


def run_bench(request: Request, say: Say) -> dict[str, Any]:
    """Measure; what comes first is measured before others need memory.

    Raises:
        ElirError: the bundle, the checkpoint or the pictures cannot be used.
    """
    began = time.perf_counter()
    load_before = os.getloadavg()[0]
    resident = resident_bytes()
    say("opening")
    with elir_trt.open(
        request.bundle, device=request.device, backend=request.backend, progress=say
    ) as restorer:
        recipe = restorer.recipe
        size = request.size or restorer.bundle.manifest.specification.size
        samples = load_samples(recipe, size, request.data)
        say("the stream alone")
        alone = _measure_stream(restorer, samples, request.seconds)
        memory = {
            "before_mib": round(resident / 2**20, 1),
            "streaming_mib": alone.pop("resident_mib"),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        report: dict[str, Any] = {
            "format": "elir_trt bench",
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": _machine(load_before),
            "versions": _versions(),
            "bundle": _bundle(restorer, size, samples),
            "stream": alone,
            "memory": memory,
            **_beside_peers(restorer, samples, request, say),
            "peaks": None,
            "work": None,
        }
        if restorer.engines.device == "cpu":
            say("peaks of this CPU")
            from elir_trt.benching.peaks import measure_peaks

            report["peaks"] = asdict(measure_peaks())
        say("counting")
        report["work"] = _work(restorer, size)
    report["seconds"] = round(time.perf_counter() - began, 1)
    return report


def _machine(load_before: float) -> dict[str, Any]:
    gpu = find_gpu()
    return {
        "cpu": cpu_model(),
        "threads": available_cpus(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": gpu.name,
        "no_gpu": gpu.reason,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": round(load_before, 2),
    }


def _versions() -> dict[str, str]:
    found = {"elir_trt": elir_trt.__version__, "python": platform.python_version(), **backends.versions()}
    for name in _PACKAGES:
        try:
            found.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return found


def _bundle(restorer: Restorer, size: tuple[int, int], samples: Samples) -> dict[str, Any]:
    choice = restorer.choice
    return {
        "task": restorer.recipe.task,
        "digest": restorer.bundle.digest,
        "size": list(size),
        "default_steps": restorer.recipe.default_steps,
        "steps": restorer.recipe.steps,
        "engines": restorer.engines.name,
        "device": restorer.engines.device,
        "precision": restorer.engines.precision if choice is None else describe(choice.precisions),
        "one_engine_without_steps": choice is not None and choice.direct,
        "pictures": samples.source,
    }


def _measure_stream(restorer: Restorer, samples: Samples, seconds: float) -> dict[str, Any]:
    """Latency of one frame after the other, then throughput and energy of a stream that is kept busy."""
    frames = samples.held_out + samples.frames
    latencies: list[float] = []
    stages: dict[str, list[float]] = defaultdict(list)
    with restorer.stream(depth=1) as stream:
        for frame in frames[:3]:
            stream.submit(frame)
            stream.result()
        until = time.perf_counter() + seconds
        for frame in itertools.islice(itertools.cycle(frames), FRAMES):
            stream.submit(frame)
            result = stream.result()
            latencies.append(result.latency_ms)
            for name, ms in result.stages.items():
                stages[name].append(ms)
            if time.perf_counter() > until:
                break
    with restorer.stream(depth=3) as stream, measured_energy() as energy:
        began = time.perf_counter()
        count = 0
        for _ in stream.map(_until(frames, began + seconds / 2)):
            count += 1
        elapsed = time.perf_counter() - began
        resident = resident_bytes()
    return {
        "steps": restorer.recipe.default_steps,
        "frames": len(latencies),
        "latency_ms": percentiles(latencies),
        "jitter_ms": jitter(latencies),
        "histogram": histogram(latencies),
        "stages_ms": {name: percentiles(values) for name, values in stages.items()},
        "throughput_fps": round(count / elapsed, 3),
        "resident_mib": round(resident / 2**20, 1),
        "energy": {
            "joules_per_frame": {name: round(joules / count, 4) for name, joules in energy.joules.items()},
            "unreadable": energy.unreadable,
        },
    }


def _until(frames: Sequence[Image], end: float) -> Any:
    for frame in itertools.cycle(frames):
        yield frame
        if time.perf_counter() > end:
            return


def _beside_peers(restorer: Restorer, samples: Samples, request: Request, say: Say) -> dict[str, Any]:
    """All contenders in turns, a frame each, with the default steps and with all of them."""
    recipe = restorer.recipe
    counts = sorted({recipe.default_steps, recipe.steps})
    random = False
    absent: Mapping[str, str] = {}
    restores: dict[str, Restore] = {}
    if request.peers:
        try:
            peers = find_peers(Bundle(restorer.bundle.path), request.weights, samples.held_out[0], say)
        except MissingPackageError as error:
            absent = {"all peers": str(error)}
        else:
            restores, absent, random = peers.restores, peers.absent, peers.random
    rows: dict[str, Any] = {}
    with restorer.stream(depth=1) as stream:
        stages: dict[str, float] = {}

        def ours(frame: Image, steps: int) -> Image:
            stream.submit(frame, steps=steps)
            result = stream.result()
            stages.update(result.stages)
            restored: Image = result.frame
            return restored

        contenders = {OURS: ours, **restores}
        # With every number of steps for quality against time; peers with two of them.
        for steps in range(recipe.steps + 1):
            taking_part = contenders if steps in counts else {OURS: ours}
            say(f"in turns, {steps} steps: {', '.join(taking_part)}")
            rows[str(steps)] = _in_turns(taking_part, samples, steps, request.rounds, random)
            rows[str(steps)][OURS]["stages_ms"] = {name: round(ms, 4) for name, ms in stages.items()}
            stages.clear()
    return {"steps": rows, "absent": dict(absent), "peers_have_random_weights": random}


def _in_turns(
    contenders: Mapping[str, Restore], samples: Samples, steps: int, rounds: int, random: bool
) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    quality: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    pairs = list(zip(samples.held_out, samples.clean, strict=True))
    for turn in range(rounds + 1):
        frame, clean = pairs[turn % len(pairs)]
        for name, restore in contenders.items():
            began = time.perf_counter()
            restored = restore(frame, steps)
            elapsed = 1e3 * (time.perf_counter() - began)
            if not turn:
                continue  # The first round is no measure: compiling, first touch of memory.
            times[name].append(elapsed)
            if name == OURS or not random:
                quality[name].append((min(psnr(clean, restored), _EQUAL_DB), ssim(clean, restored)))
    ours = times[OURS]
    found = {}
    for name, values in times.items():
        ratios = [other / own for other, own in zip(values, ours, strict=True)]
        row: dict[str, Any] = {"ms": spread(values), "times_ours": spread(ratios)}
        if quality[name]:
            psnrs, ssims = zip(*quality[name], strict=True)
            row.update(psnr=round(float(np.mean(psnrs)), 3), ssim=round(float(np.mean(ssims)), 5))
        found[name] = row
    return found


def _work(restorer: Restorer, size: tuple[int, int]) -> dict[str, Any] | None:
    """What each part costs; None: PyTorch, which counts, is not installed."""
    try:
        from elir_trt.benching.work import CORE, Counted
    except ImportError:
        return None
    geometry = restorer.geometry(size)
    counted = Counted(restorer.recipe)
    parts = {name: asdict(work) for name, work in counted.parts(geometry.engine).items()}
    frames = counted.frames(geometry.engine)
    direct = sum((frames[0][part] for part in PARTS if part != "velocity"), frames[0][CORE].times(0))
    return {
        "tiles": len(geometry.tiles),
        "parts": {**parts, DIRECT: asdict(direct)},
        "core": [asdict(works[CORE]) for works in frames],
    }
