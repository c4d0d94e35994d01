"""``elir-trt info``."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from elir_trt.cli.shared import BundleArgument, plain_table, search_table


def info(bundle: BundleArgument) -> None:
    """Show what a bundle is, after checking its files."""
    from elir_trt.bundle import Bundle, find_bundle

    opened = Bundle(find_bundle(bundle))
    manifest = opened.manifest
    specification, recipe = manifest.specification, manifest.specification.recipe
    console = Console(highlight=False)
    table = plain_table(show_header=False)
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
