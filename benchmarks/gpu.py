"""A frame on the GPU, from host to host, beside PyTorch on the same model and size, in one run.

    python -m benchmarks.gpu --json benchmarks/results/GPU.json [--task bfr] [--frames 500] [--no-compile] [--check]

The weights are random, made by torch from a fixed seed: times carry over to trained ones. Every way gets the frame
in pinned memory of the CPU and leaves the result there, noise included; times are of single frames, one at a time,
after a warm-up. Peers: eager float32 (TF32 off), eager FP16 with channels last, and torch.compile of the same
(max-autotune, with CUDA graphs). Ours: each TensorRT that is installed, and torch's parts recorded by the core.
Kernels are timed by CUPTI through torch's profiler; their bytes are those that the arithmetic needs. --check runs
tests/gpu first, and a failure there is this command's too, after it has measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elir_trt
from elir_trt import _core
from elir_trt.backends import tensorrt_api
from elir_trt.building import build
from elir_trt.errors import ElirError
from elir_trt.gpu import find_gpu
from elir_trt.model import Elir
from elir_trt.parts import PARTS
from elir_trt.recipe import Recipe, load_recipe, parse_recipe

KERNELS = ("load_frame", "draw_noise", "start_latent", "step_latent", "store_frame", "blend_tiles")


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Median, p95 and p99."""
    ordered = sorted(milliseconds)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return {"median": statistics.median(ordered), "p95": at(0.95), "p99": at(0.99)}


def timed(call: Callable[[], object], frames: int, warm: int = 30) -> dict[str, float]:
    """Wall-clock milliseconds of calls that end when their result is there."""
    for _ in range(warm):
        call()
    found = []
    for _ in range(frames):
        began = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - began))
    return percentiles(found)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two uint8 images, in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9)))


class Peer:
    """The model in torch, from a frame in pinned memory to one in pinned memory."""

    def __init__(
        self, model: Elir, recipe: Recipe, frame: np.ndarray, noise: torch.Tensor, half: bool
    ) -> None:
        kind = torch.float16 if half else torch.float32
        layout = torch.channels_last if half else torch.contiguous_format
        self.model: Any = model.to("cuda", kind).to(memory_format=layout)
        self.frame = torch.from_numpy(frame).pin_memory()
        self.out = torch.empty_like(self.frame).pin_memory()
        self.noise, self.kind, self.layout = noise.to("cuda", kind), kind, layout
        self.steps, self.sigma = recipe.steps, recipe.sigma

    def restore(self, frame: torch.Tensor) -> torch.Tensor:
        """One frame, on the GPU."""
        x = frame.permute(2, 0, 1)[None].to(self.kind) / 255
        y = self.model.restore(
            x.contiguous(memory_format=self.layout), steps=self.steps, sigma=self.sigma, noise=self.noise
        )
        return (255 * y[0]).round().to(torch.uint8).permute(1, 2, 0)

    def __call__(self, restore: Callable[[torch.Tensor], torch.Tensor] | None = None) -> np.ndarray:
        with torch.no_grad():
            y = (restore or self.restore)(self.frame.to("cuda", non_blocking=True))
            self.out.copy_(y, non_blocking=True)
        torch.cuda.synchronize()
        return self.out.numpy()


def kernel_times(call: Callable[[], object], count: int) -> dict[str, dict[str, float]]:
    """Microseconds on the GPU per frame, by kernel, of ``count`` frames; "all" has every kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(count):
            call()
        torch.cuda.synchronize()
    found: dict[str, dict[str, float]] = {"all": {"us": 0.0, "calls": 0.0}}
    for event in profile.key_averages():
        us = float(
            getattr(event, "self_device_time_total", 0.0) or getattr(event, "self_cuda_time_total", 0.0)
        )
        if us == 0.0 or event.key.startswith(("Memcpy", "Memset")):
            continue
        name = next((known for known in KERNELS if known in event.key), None)
        for key in ("all", *([name] if name else [])):
            entry = found.setdefault(key, {"us": 0.0, "calls": 0.0})
            entry["us"] += us / count
            entry["calls"] += event.count / count
    return found


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a large copy on the GPU."""
    a = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    best = 0.0
    for _ in range(10):
        events[0].record()
        b.copy_(a)
        events[1].record()
        torch.cuda.synchronize()
        best = max(best, 2 * a.numel() / (events[0].elapsed_time(events[1]) / 1e3))
    return best


def kernels_at(height: int, width: int) -> dict[str, dict[str, float]]:
    """Our kernels alone, in float16, on frames of this size: microseconds, and bytes that they must move."""
    recipe = parse_recipe(
        {
            "task": "kernels",
            "title": "parts that do nothing",
            "steps": 3,
            "sigma": 0.1,
            "size": [64, 64],
            "architecture": {
                "latent_channels": 16,
                "autoencoder": {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0]},
                "coarse": {"growth": 8, "blocks": 1},
                "velocity": {"hidden": 32, "middle": 0},
            },
            "prepare": {"mode": "pad", "multiple": 64},
        },
        "kernels",
    )
    from elir_trt.geometry import plan

    geometry = plan(recipe, (height, width), size=recipe.size, fixed=False)
    options = _core.StreamOptions(
        device="cuda",
        element="float16",
        steps=3,
        sigma=0.1,
        table=np.zeros((3, 8), np.float32),
        noise="per-frame",
        results="device",
    )
    core = _core.Stream(geometry, options)
    for part in PARTS:
        core.set_part(part, lambda handle: None)
    core.start()
    frame = torch.zeros((height, width, 3), dtype=torch.uint8, device="cuda")

    def call() -> None:
        core.submit(frame)
        core.result()

    for _ in range(10):
        call()
    found = kernel_times(call, 50)
    pixels, image = height * width, 3 * int(np.prod(geometry.engine))
    latent = 16 * int(np.prod(geometry.engine)) // 64
    moved = {
        "load_frame": 3 * pixels + 2 * image,
        "draw_noise": 4 * latent,
        "start_latent": (2 + 4 + 4 + 2) * latent,
        "step_latent": (2 + 4 + 4 + 2) * latent,
        "store_frame": 2 * 3 * pixels + 3 * pixels,
    }
    for name, count in moved.items():
        if name in found:
            found[name]["bytes"] = count * found[name]["calls"]
    return found


def part_times(restorer: elir_trt.Restorer, size: tuple[int, int]) -> dict[str, float]:
    """Milliseconds on the GPU of each part alone, by events around 20 runs in a row; median of 10."""
    backend, recipe = restorer.engines, restorer.recipe
    geometry = restorer.geometry(size)
    batch = restorer.batch(geometry)
    options = _core.StreamOptions(
        device="cuda",
        batch=batch,
        element=backend.element,
        steps=0,
        sigma=0.0,
        table=np.zeros((0, restorer.bundle.condition_width), np.float32),
    )
    core = _core.Stream(geometry, options)
    stream = torch.cuda.Stream()
    found = {}
    for part, enqueue in backend.bind(geometry.engine, batch, core).items():
        runs = []
        for _ in range(12):
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record(stream)
            for _ in range(20):
                enqueue(stream.cuda_stream)
            events[1].record(stream)
            stream.synchronize()
            runs.append(events[0].elapsed_time(events[1]) / 20)
        found[part] = statistics.median(runs[2:])
    found["velocity_all_steps"] = recipe.steps * found["velocity"]
    return found


def ours(path: Path, backend: str, frame: np.ndarray, reference: np.ndarray, frames: int) -> dict[str, Any]:
    """One backend: times of frames, parts and kernels, and how near it is to float32."""
    size = (frame.shape[0], frame.shape[1])
    with elir_trt.open(path, device="cuda", backend=backend, on_engine_error="raise") as restorer:
        report: dict[str, Any] = {"precision": restorer.engines.precision}
        with restorer.stream(depth=1, size=size) as stream:
            launches = []

            def call() -> np.ndarray:
                stream.submit(frame)
                result = stream.result()
                launches.append(1e3 * result.stages["launch"])
                restored: np.ndarray = result.frame
                return restored

            report["psnr_against_float32"] = psnr(call(), reference)
            report["frame_ms"] = timed(call, frames)
            report["psnr_of_the_last"] = psnr(call(), reference)
            report["host_us"] = statistics.median(launches[-frames:])
            report["execution_mode"] = stream.execution_mode
            kernels = kernel_times(call, 20)
            report["kernels_us"] = kernels
            own = sum(kernels[name]["us"] for name in KERNELS if name in kernels)
            report["own_kernels_percent"] = 100 * own / max(kernels["all"]["us"], 1e-9)
        with restorer.stream(depth=3, size=size) as stream:
            began = time.perf_counter()
            done = sum(1 for _ in stream.map(frame for _ in range(frames)))
            report["frames_per_second"] = done / (time.perf_counter() - began)
        report["parts_ms"] = part_times(restorer, size)
    return report


def attempt(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or the words with which it was refused."""
    try:
        return work()
    except (ElirError, RuntimeError, ImportError) as error:
        return {"refused": f"{type(error).__name__}: {error}"[:2000]}


def measure(task: str, frames: int, compiled: bool) -> dict[str, Any]:
    """Everything; a way that is refused is in the report with its words."""
    gpu = find_gpu()
    recipe = load_recipe(task)
    torch.manual_seed(0)
    model = Elir(recipe.architecture).eval().requires_grad_(False)
    frame = np.random.default_rng(0).integers(0, 256, (*recipe.size, 3), dtype=np.uint8)
    latent = tuple(side // recipe.architecture.downscale for side in recipe.size)
    noise = torch.from_numpy(_core.noise_field(0, recipe.architecture.latent_channels, *latent))[None]
    report: dict[str, Any] = {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "torch": torch.__version__,
        "task": task,
        "size": recipe.size,
        "steps": recipe.steps,
        "frames": frames,
    }
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(model.state_dict(), weights)
        peer = Peer(model, recipe, frame, noise, half=False)
        reference = peer().copy()
        report["eager_float32"] = timed(peer, max(frames // 5, 10), 5)
        for flavour in (*tensorrt_api.installed(), "torch"):
            path = Path(folder) / flavour

            def backend(flavour: str = flavour, path: Path = path) -> dict[str, Any]:
                built = build(recipe, weights, output=path, backends=[flavour], precision="fp16")  # type: ignore[list-item]
                result = ours(path, flavour, frame, reference, frames)
                return {"build_s": built.seconds, **result}

            report[flavour] = attempt(backend)
        half = Peer(model, recipe, frame, noise, half=True)
        report["eager_float16"] = timed(half, frames)
        if compiled:

            def fast() -> dict[str, float]:
                restore = torch.compile(half.restore, mode="max-autotune")
                return timed(lambda: half(restore), frames)

            report["compiled_float16"] = attempt(fast)
    bandwidth = copy_bandwidth()
    report["copy_gb_s"] = bandwidth / 1e9
    for height, width in ((1080, 1920), (2160, 3840)):
        found = kernels_at(height, width)
        for entry in found.values():
            if "bytes" in entry:
                entry["of_copy"] = entry["bytes"] / (entry["us"] * 1e-6) / bandwidth
        report[f"kernels_{width}x{height}"] = found
    best = min(
        (report[name]["frame_ms"]["median"], name)
        for name in (*tensorrt_api.installed(), "torch")
        if "frame_ms" in report[name]
    )
    report["best"] = best[1]
    report["ratios"] = {
        name: report[name]["median"] / best[0]
        for name in ("eager_float32", "eager_float16", "compiled_float16")
        if "median" in report.get(name, {})
    }
    return report


def check() -> int:
    """Run the tests that need a GPU, where a missing one is a failure; return pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu"]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "ELIR_TRT_REQUIRE_GPU": "1"}
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="bfr")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--check", action="store_true", help="run tests/gpu first")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    problem = _core.cuda_problem()
    if problem:
        raise SystemExit(f"no GPU to measure: {problem}")
    checked = check() if arguments.check else None
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; install a torch that was built for CUDA")
    report = measure(arguments.task, arguments.frames, not arguments.no_compile)
    report["checks"] = {None: "not run", 0: "passed"}.get(checked, f"failed with status {checked}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    print(f"{report['gpu']}, {report['task']} {report['size']}: best is {report['best']}")
    for name, ratio in report["ratios"].items():
        print(f"  {ratio:.2f} times the speed of {name}")
    if checked:
        raise SystemExit(f"tests/gpu failed with status {checked}")


if __name__ == "__main__":
    main()
