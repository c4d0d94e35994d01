"""``elir-trt info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from elir_trt.cli.shared import BundleArgument, choice_table, plain_table, search_table

if TYPE_CHECKING:
    from elir_trt.bundle import Bundle
    from elir_trt.manifest import LadderRecord, Quality


def _show_portable(console: Console, bundle: Bundle) -> None:
    """The forms of the parts, and what this machine chose of them."""
    from elir_trt.tuning.choice import choices_here

    variants = plain_table("part", "as ONNX in", "relative error")
    for part, records in bundle.manifest.variants.items():
        for precision, record in records.items():
            variants.add_row(part, precision, f"{record.relative_error:.1e}")
    console.print(variants)
    gate = bundle.manifest.gate
    assert gate is not None
    console.print(f"engines keep {gate.min_psnr:g} dB against float32 on the bundle's reference frames")
    if bundle.manifest.ladder is not None:
        _show_ladder(console, bundle.manifest.ladder)
    for name, choice in choices_here(bundle):
        console.print(f"{name} on this machine:")
        console.print(choice_table(choice))


def _show_ladder(console: Console, ladder: LadderRecord) -> None:
    """Time against quality, as it was measured where the bundle was built."""
    table = plain_table("steps", "precision", "ms", "PSNR dB", "SSIM", "SSIMULACRA2")

    def add(steps: str, precision: str, ms: str, quality: Quality) -> None:
        looks = "-" if quality.ssimulacra2 is None else f"{quality.ssimulacra2:.1f}"
        table.add_row(steps, precision, ms, f"{quality.psnr:.2f}", f"{quality.ssim:.4f}", looks)

    add("unrestored", "", "", ladder.unrestored)
    for rung in ladder.rungs:
        add(str(rung.steps), rung.precision, f"{rung.ms:.1f}", rung.quality)
    console.print(f"time against quality, {ladder.frames} frames on {ladder.machine}, where it was built:")
    console.print(table)


def info(bundle: BundleArgument) -> None:
    """Show what a bundle is, after checking its files."""
    from elir_trt.bundle import Bundle, find_bundle

    opened = Bundle(find_bundle(bundle))
    manifest = opened.manifest
    specification, recipe = manifest.specification, manifest.specification.recipe
    console = Console(highlight=False)
    rows: dict[str, Any] = {
        "folder": opened.path,
        "task": f"{recipe.task}: {recipe.title}",
        "steps": f"{recipe.steps} (default {recipe.default_steps}), sigma {recipe.sigma}",
        "size": f"{specification.size[0]}x{specification.size[1]} (height x width), batch {specification.batch}",
        "precision": specification.precision
        or (
            "what each machine measures to be fastest"
            if opened.is_portable
            else "the fastest of each backend"
        ),
        "backends": ", ".join(specification.backends) or "engines are made where it is opened",
        "checkpoint": f"sha256 {specification.checkpoint}",
        "key": specification.key(),
        "built": f"{manifest.created} with "
        + ", ".join(f"{name} {version}" for name, version in manifest.built_with.items()),
        "for": specification.gpu or "any machine of its backends",
        "files": f"{len(manifest.files)}, all with the digests of the manifest",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        # No table: it would cut or break what is to be copied, such as a path, where the terminal is narrow.
        console.print(f"{name:{width}}  {value}", soft_wrap=True, markup=False)
    if opened.is_portable:
        _show_portable(console, opened)
        return
    parts = plain_table("backend", "part", "precision", "relative error", "build s", "note")
    for backend, records in manifest.parts.items():
        precisions = opened.precisions(backend)
        for part, record in records.items():
            error, seconds = f"{record.relative_error:.1e}", f"{record.seconds:.1f}"
            parts.add_row(backend, part, precisions[part] or "", error, seconds, record.note or "")
    console.print(parts)
    for backend, pipeline in manifest.pipelines.items():
        console.print(f"{backend}: {pipeline.psnr:.1f} dB against float32 on held-out frames")
        if pipeline.search:
            console.print(search_table(pipeline.search))
