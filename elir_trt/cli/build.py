"""``elir-trt build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import Progress

from elir_trt.cli.shared import one_of, search_table, size_of
from elir_trt.errors import ElirError


def build(
    recipe: Annotated[str, typer.Argument(help="Task (bfr, bsr, ...) or the path of a recipe.")],
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Checkpoint: .pth, .ckpt or .npz. A task whose bundle ships with the package needs none: its "
            "engines for this machine are made."
        ),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder of the bundle. Default: the user's cache."),
    ] = None,
    backend: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Backend (doctor lists them) whose engines, of this machine, the bundle is to hold; may be "
            "repeated. Default: none; the bundle is portable, and engines are made and measured where it is opened."
        ),
    ] = None,
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Of engines in the bundle: fp32, bf16, fp16, int8, int8-full (the first and last convolution too) "
            "or fp8, for all parts or as velocity=int8,decoder=fp16; auto: the fastest that keeps --min-psnr. "
            "Default: fp16 on TensorRT, the fastest float on the CPU."
        ),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH of the engines' input, in multiples of 64. Default: the recipe's."),
    ] = None,
    calibrate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Folder of clean pictures, image or video that int8, fp8 and auto measure with, degraded as the "
            "task's frames are. Default: procedural images."
        ),
    ] = None,
    min_psnr: Annotated[
        float, typer.Option(min=1.0, help="What engines have to keep: dB of PSNR against float32.")
    ] = 40.0,
    batch: Annotated[int, typer.Option(min=1, help="Tiles that go through the engines together.")] = 1,
    half_weights: Annotated[bool, typer.Option(help="Keep the CPU engines' weights in 16 bits.")] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Keep the ONNX files, to build TensorRT engines elsewhere.")
    ] = False,
    workspace: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1, help="MiB of GPU memory that a layer of TensorRT may use. Default: TensorRT's own."
        ),
    ] = None,
    builder_optimization_level: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, max=5, help="TensorRT's: 0 builds fast, 5 searches long. Default: its own, 3."),
    ] = None,
    max_aux_streams: Annotated[
        int, typer.Option(min=0, help="CUDA streams besides its own that a TensorRT engine may use.")
    ] = 0,
    force: Annotated[bool, typer.Option(help="Build again, and replace the output.")] = False,
) -> None:
    """Make a bundle of a recipe and a checkpoint."""
    from elir_trt import backends
    from elir_trt.building import build as build_bundle
    from elir_trt.recipe import load_recipe

    chosen = load_recipe(recipe)
    if weights is None:
        if backend and len(backend) > 1:
            raise ElirError(
                f"--backend is given {len(backend)} times; without --weights engines are made of one"
            )
        _without_weights(recipe, backend[0] if backend else "auto")
        return
    for name in backend or []:
        one_of("--backend", name, backends.names())
    with _Bar("Building") as show:
        report = build_bundle(
            chosen,
            weights,
            output=output,
            backends=backend or None,
            precision=precision,
            calibrate=calibrate,
            min_psnr=min_psnr,
            size=size_of(size) if size else None,
            batch=batch,
            half_weights=half_weights,
            portable=portable,
            workspace_bytes=None if workspace is None else workspace << 20,
            builder_optimization_level=builder_optimization_level,
            max_aux_streams=max_aux_streams,
            force=force,
            progress=show,
        )
    for name, pipeline in report.manifest.pipelines.items():
        if pipeline.search:
            Console(highlight=False).print(search_table(pipeline.search))
        chosen_text = ", ".join(f"{part} {r.precision}" for part, r in report.manifest.parts[name].items())
        print(f"{name}: {chosen_text}; {pipeline.psnr:.1f} dB against float32")
        for part, record in report.manifest.parts[name].items():
            if record.note:
                print(f"{name}: {part}: {record.note}")
    print(f"{'found in the cache' if report.cached else 'built'} in {report.seconds:.1f} s: {report.path}")


def _without_weights(task: str, backend: str) -> None:
    """Make this machine's engines of the bundle that ships with the package."""
    from elir_trt.bundle import shipped_folder
    from elir_trt.cli.tune import make_engines

    folder = shipped_folder() / task
    if not folder.is_dir():
        raise ElirError(f"--weights is missing: no bundle of {task!r} ships with the package")
    make_engines(str(folder), backend)


class _Bar:
    """A progress bar for builds, on standard error."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total)
