"""``elir-trt verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from elir_trt.cli.shared import BundleArgument, plain_table
from elir_trt.errors import ElirError


def verify(
    bundle: BundleArgument,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Clean pictures: a folder, an image or a video. Default: procedural images."),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend (doctor lists them).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    frames: Annotated[int, typer.Option(min=4, help="How many frames to compare.")] = 4,
    picture: Annotated[
        Path, typer.Option(help="PNG of the worst frame: given, restored, float32, difference times 10.")
    ] = Path("verify.png"),
) -> None:
    """Compare a bundle's engines with float32, part by part and as a whole; status 1 beyond the bounds."""
    from elir_trt.verify import verify as verify_bundle
    from elir_trt.verify import write_picture

    found = verify_bundle(bundle, data=data, backend=backend, device=device, frames=frames)
    write_picture(found.picture, picture)
    table = plain_table("part", "precision", "relative error", "allowed", "")
    for check in found.parts:
        error, allowed = f"{check.relative_error:.2e}", f"{check.bound:.0e}"
        table.add_row(check.part, check.precision, error, allowed, "" if check.passed else "beyond")
    Console(highlight=False).print(table)
    print(
        f"{found.backend} on {found.device}: restored frames {found.psnr:.1f} dB, SSIM {found.ssim:.4f} against "
        f"float32 (at least {found.least:.1f} dB); worst {found.worst_psnr:.1f} dB, in {picture}"
    )
    if not found.passed:
        beyond = [check.part for check in found.parts if not check.passed]
        what = f"the {', '.join(beyond)}" if beyond else "the restored frames"
        raise ElirError(f"{bundle}: {what} further from float32 than the bundle's precision allows")
