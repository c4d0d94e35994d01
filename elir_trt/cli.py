"""The command line: build, run, info, doctor, demo, train."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TextIO

import typer

from elir_trt.errors import ElirError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from elir_trt.manifest import SearchRow

app = typer.Typer(
    name="elir-trt",
    help="Latent flow image restoration as engines: build bundles, restore images and videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Exit status after Ctrl-C, as shells give it.
INTERRUPTED = 130

# Typer reads these annotations at run time; Optional is what it understands on every Python.
Steps = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Euler steps; 0 decodes the coarse estimate. Default: the recipe's."),
]
Weights = Annotated[Path, typer.Option(help="Checkpoint: .pth, .ckpt or .npz.")]


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="Task (bfr, bsr, ...) or the path of a recipe.")],
    weights: Weights,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder of the bundle. Default: the user's cache."),
    ] = None,
    backend: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="openvino, tensorrt, tensorrt-rtx or torch; may be repeated. Default: what is here."
        ),
    ] = None,
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="fp32, bf16, fp16, int8, int8-full (the first and last convolution too) or fp8, for all parts "
            "or as velocity=int8,decoder=fp16; auto: the fastest that keeps --min-psnr. "
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
        float, typer.Option(min=1.0, help="What auto keeps: dB of PSNR against float32.")
    ] = 40.0,
    batch: Annotated[int, typer.Option(min=1, help="Images per call.")] = 1,
    half_weights: Annotated[bool, typer.Option(help="Keep the CPU engines' weights in 16 bits.")] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Keep the ONNX files, to build TensorRT engines elsewhere.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Build again, and replace the output.")] = False,
) -> None:
    """Make a bundle of a recipe and a checkpoint."""
    from elir_trt.building import build as build_bundle
    from elir_trt.recipe import load_recipe

    chosen = load_recipe(recipe)
    for name in backend or []:
        _one_of("--backend", name, ("openvino", "tensorrt", "tensorrt-rtx", "torch"))
    with _bar("Building") as show:
        report = build_bundle(
            chosen,
            weights,
            output=output,
            backends=backend or None,
            precision=precision,
            calibrate=calibrate,
            min_psnr=min_psnr,
            size=_size(size) if size else None,
            batch=batch,
            half_weights=half_weights,
            portable=portable,
            force=force,
            progress=show,
        )
    for name, pipeline in report.manifest.pipelines.items():
        if pipeline.search:
            from rich.console import Console

            Console(highlight=False).print(_search_table(pipeline.search))
        chosen_text = ", ".join(f"{part} {r.precision}" for part, r in report.manifest.parts[name].items())
        print(f"{name}: {chosen_text}; {pipeline.psnr:.1f} dB against float32")
        for part, record in report.manifest.parts[name].items():
            if record.note:
                print(f"{name}: {part}: {record.note}")
    print(f"{'found in the cache' if report.cached else 'built'} in {report.seconds:.1f} s: {report.path}")


@app.command()
def run(
    input: Annotated[Path, typer.Argument(help="An image, a folder of images, or a video.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, or for a folder the folder, to write.")
    ],
    bundle: Annotated[str, typer.Option(help="Bundle's folder, or a task.")] = "camera",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    noise: Annotated[str, typer.Option(help="fixed, per-frame or off.")] = "fixed",
    compare: Annotated[bool, typer.Option("--compare", help="Write before and after side by side.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    damaged: Annotated[
        str, typer.Option(help="Damaged videos: error, or warn and keep what can be decoded.")
    ] = "error",
) -> None:
    """Restore an image, a folder of images, or a video (other streams copied, timestamps kept)."""
    from elir_trt import restorer as opened
    from elir_trt.io.progress import RichProgress
    from elir_trt.io.restore import media_kind, restore_path

    _one_of("--noise", noise, ("fixed", "per-frame", "off"))
    _one_of("--damaged", damaged, ("error", "warn"))
    media_kind(input)  # before the engines are loaded
    with opened.open(bundle) as restorer:
        if steps is not None and not 0 <= steps <= restorer.recipe.steps:
            raise ElirError(f"--steps is {steps}; this bundle allows 0 to {restorer.recipe.steps}")
        with RichProgress(input.name) as progress:
            report = restore_path(
                restorer,
                input,
                output,
                compare=compare,
                steps=steps,
                seed=seed,
                noise=noise,  # type: ignore[arg-type]
                overwrite=overwrite,
                damaged=damaged,  # type: ignore[arg-type]
                progress=progress,
                on_error=(lambda _, error: _complain(error)) if input.is_dir() else None,
            )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    what = str(report.outputs[0]) if len(report.outputs) == 1 else f"{len(report.outputs)} files in {output}"
    print(f"{report.frames} frames at {report.fps:.2f} frames/s: {what}")
    if report.failed:
        raise ElirError(
            f"{report.failed} of {report.failed + len(report.outputs)} inputs could not be restored"
        )


@app.command()
def info(bundle: Annotated[str, typer.Argument(help="Bundle's folder, or a task.")]) -> None:
    """Show what a bundle is, after checking its files."""
    from rich.console import Console
    from rich.table import Table

    from elir_trt.bundle import Bundle, find_bundle

    opened = Bundle(find_bundle(bundle))
    manifest = opened.manifest
    specification, recipe = manifest.specification, manifest.specification.recipe
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows: dict[str, Any] = {
        "folder": opened.path,
        "task": f"{recipe.task}: {recipe.title}",
        "steps": f"{recipe.steps} (default {recipe.default_steps}), sigma {recipe.sigma}",
        "size": f"{specification.size[0]}x{specification.size[1]} (height x width), batch {specification.batch}",
        "precision": specification.precision or "the fastest of each backend",
        "backends": ", ".join(specification.backends),
        "checkpoint": f"sha256 {specification.checkpoint}",
        "key": specification.key(),
        "built": f"{manifest.created} with "
        + ", ".join(f"{name} {version}" for name, version in manifest.built_with.items()),
        "for": specification.gpu or "any machine of its backends",
        "files": f"{len(manifest.files)}, all with the digests of the manifest",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    parts = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("backend", "part", "precision", "relative error", "build s", "note"):
        parts.add_column(column)
    for backend, records in manifest.parts.items():
        precisions = opened.precisions(backend)
        for part, record in records.items():
            error, seconds = f"{record.relative_error:.1e}", f"{record.seconds:.1f}"
            parts.add_row(backend, part, precisions[part] or "", error, seconds, record.note or "")
    console.print(parts)
    for backend, pipeline in manifest.pipelines.items():
        console.print(f"{backend}: {pipeline.psnr:.1f} dB against float32 on held-out frames")
        if pipeline.search:
            console.print(_search_table(pipeline.search))


@app.command()
def verify(
    bundle: Annotated[str, typer.Argument(help="Bundle's folder, or a task.")],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Clean pictures: a folder, an image or a video. Default: procedural images."),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, tensorrt, tensorrt-rtx, torch or openvino.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    frames: Annotated[int, typer.Option(min=4, help="How many frames to compare.")] = 4,
    picture: Annotated[
        Path, typer.Option(help="PNG of the worst frame: given, restored, float32, difference times 10.")
    ] = Path("verify.png"),
) -> None:
    """Compare a bundle's engines with float32, part by part and as a whole; status 1 beyond the bounds."""
    from rich.console import Console
    from rich.table import Table

    from elir_trt.verify import verify as verify_bundle
    from elir_trt.verify import write_picture

    found = verify_bundle(bundle, data=data, backend=backend, device=device, frames=frames)
    write_picture(found.picture, picture)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("part", "precision", "relative error", "allowed", ""):
        table.add_column(column)
    for check in found.parts:
        error, allowed = f"{check.relative_error:.2e}", f"{check.bound:.0e}"
        table.add_row(check.part, check.precision, error, allowed, "" if check.passed else "beyond")
    console = Console(highlight=False)
    console.print(table)
    print(
        f"{found.backend} on {found.device}: restored frames {found.psnr:.1f} dB, SSIM {found.ssim:.4f} against "
        f"float32 (at least {found.least:.1f} dB); worst {found.worst_psnr:.1f} dB, in {picture}"
    )
    if not found.passed:
        beyond = [check.part for check in found.parts if not check.passed]
        what = f"the {', '.join(beyond)}" if beyond else "the restored frames"
        raise ElirError(f"{bundle}: {what} further from float32 than the bundle's precision allows")


@app.command()
def doctor() -> None:
    """Show what is installed, which devices and backends are usable, and why not."""
    from elir_trt.doctor import examine

    marks = {True: "yes", False: "no", None: ""}
    for finding in examine():
        print(f"{finding.subject:24} {marks[finding.usable]:4} {finding.detail}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo"),
    bundle: Annotated[str, typer.Option(help="Bundle's folder, or a task.")] = "camera",
    seconds: Annotated[float, typer.Option(help="Length of the clip.")] = 4.0,
    sigma: Annotated[float, typer.Option(help="Noise at middle grey, in levels of 255.")] = 25.0,
) -> None:
    """Restore a noisy clip made of real photos; needs no file and no network."""
    from elir_trt import restorer as opened
    from elir_trt.demo import run_demo
    from elir_trt.io.progress import RichProgress

    try:
        with opened.open(bundle) as restorer, RichProgress("demo") as progress:
            report = run_demo(restorer, output, seconds=seconds, sigma=sigma, progress=progress)
    except ValueError as error:
        raise ElirError(str(error)) from error
    print(report)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Task or the path of a recipe.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, losses and sample sheets.")],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of photos. Default: procedural images only."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Checkpoint to start from."),
    ] = None,
    iterations: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Optimizer steps instead of a time budget: the same every time."),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="The published losses and schedule, instead of the fast one; the autoencoder that it needs is "
            "trained first, or comes from --weights.",
        ),
    ] = False,
) -> None:
    """Train a recipe's model, or go on with a training that was stopped."""
    from elir_trt.recipe import load_recipe

    chosen = load_recipe(recipe)
    try:
        from elir_trt.training.command import schedule
        from elir_trt.training.command import train as train_model
    except ImportError as error:
        raise ElirError(f"training needs more packages ({error}): pip install 'elir_trt[train]'") from error
    phases, flow_share = schedule(published, weights)
    path = train_model(
        chosen,
        data,
        out,
        budget_s=60.0 * minutes if iterations is None else None,
        iterations=iterations,
        flow_share=flow_share,
        phases=phases,
        seed=seed,
        device=device,
        weights=weights,
        report=lambda figures: print(_progress(figures), file=sys.stderr, flush=True),
    )
    print(f"trained: {path}; make a bundle with: elir-trt build {recipe} --weights {path}")


def _progress(figures: dict[str, float]) -> str:
    """One line of a training: the phase, the step, the time, losses, and figures on held-out crops."""
    units = {"psnr": ".2f", "ssim": ".3f"}
    seconds = round(figures["seconds"])
    cells = [
        f"phase {figures['phase']:.0f}",
        f"step {figures['step']:.0f}",
        f"{seconds // 60}:{seconds % 60:02d}",
    ]
    for name, value in figures.items():
        if name not in ("phase", "step", "seconds"):
            cells.append(f"{name} {format(value, units.get(name.split()[0], '.4g'))}")
    return "  ".join(cells)


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and a non-zero status."""
    warnings.showwarning = _show_warning
    try:
        app()
    except ElirError as error:
        _complain(error)
        _exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush to them again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        _exit(1)


def _exit(status: int) -> None:
    sys.exit(status)


def _complain(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from elir_trt.errors import ElirWarning

    if issubclass(category, ElirWarning):
        print(f"warning: {message}", file=sys.stderr)


def _one_of(option: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise ElirError(f"{option} is {found!r}; allowed: {', '.join(allowed)}")


def _search_table(rows: Sequence[SearchRow]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("part alone", "precision", "ms", "PSNR dB", "relative error", ""):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row.part,
            row.precision,
            f"{row.ms:.1f}",
            f"{row.psnr:.1f}",
            f"{row.relative_error:.1e}",
            "" if row.within_bounds else "beyond its bound",
        )
    return table


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise ElirError(f"--size is {text!r}; expected HEIGHTxWIDTH, such as 512x512") from None
    return height, width


class _bar:
    """A progress bar for builds, on standard error."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> _bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total)


if __name__ == "__main__":
    main()
