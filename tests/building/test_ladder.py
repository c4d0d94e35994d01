"""Time against quality of a bundle, measured where it is built."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import edit_manifest, small_recipe
from typer.testing import CliRunner

from elir_trt.building.ladder import measure_ladder, worthwhile
from elir_trt.bundle import Bundle
from elir_trt.cli.app import app
from elir_trt.errors import BundleError
from elir_trt.manifest import Quality, RungRecord
from elir_trt.metrics import psnr, ssimulacra2
from elir_trt.samples import load_samples
from elir_trt.tolerances import PartPrecision


def rung(
    ms: float,
    db: float,
    looks: float | None = None,
    *,
    ssim: float = 0.9,
    steps: int = 0,
    precision: PartPrecision = "fp32",
) -> RungRecord:
    quality = Quality(psnr=db, ssim=ssim, ssimulacra2=looks)
    return RungRecord(steps=steps, precision=precision, ms=ms, quality=quality)


def test_a_rung_that_is_slower_and_not_better_is_left_out() -> None:
    fast, good = rung(10.0, 28.0, 50.0), rung(30.0, 29.0, 60.0)
    worse = rung(20.0, 27.0, 49.0)
    same = rung(40.0, 29.01, 60.1)
    looks_better = rung(50.0, 28.5, 70.0)
    assert worthwhile([looks_better, same, good, worse, fast]) == (fast, good, looks_better)


def test_without_a_perceptual_measure_the_others_decide() -> None:
    fast, slow = rung(10.0, 28.0), rung(20.0, 28.0, ssim=0.95)
    assert worthwhile([slow, fast]) == (fast, slow)
    assert worthwhile([fast, rung(20.0, 28.0)]) == (fast,)


def test_a_build_measures_its_ladder(portable_bundle: Path) -> None:
    ladder = Bundle(portable_bundle).manifest.ladder
    assert ladder is not None and ladder.frames >= 1
    times = [rung.ms for rung in ladder.rungs]
    assert times == sorted(times) and len(times) >= 1
    assert ladder.rungs == worthwhile(ladder.rungs)
    assert ladder.unrestored.ssimulacra2 is not None


def test_figures_are_those_of_the_frames(portable_bundle: Path) -> None:
    bundle = Bundle(portable_bundle)
    samples = load_samples(small_recipe(), bundle.manifest.specification.size, count=6)
    expected = [psnr(a, b) for a, b in zip(samples.clean, samples.held_out, strict=True)]
    said: list[str] = []
    ladder = measure_ladder(bundle, samples, said.append)
    assert ladder is not None and ladder.frames == len(samples.held_out)
    # This task has no degradation, so that its frames are the clean ones.
    assert np.isinf(expected).all() and ladder.unrestored.psnr == 120.0 and ladder.unrestored.ssim == 1.0
    assert said[0] == "measuring the ladder"
    assert all(rung.quality.psnr < 60.0 for rung in ladder.rungs)


def test_bundles_without_a_ladder_open(portable_bundle: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(portable_bundle, tmp_path / "older"))
    edit_manifest(older, lambda manifest: (manifest.pop("ladder"), manifest.update(schema_version=2)))
    assert Bundle(older).manifest.ladder is None
    done = CliRunner().invoke(app, ["info", str(older)])
    assert done.exit_code == 0 and "time against quality" not in done.stdout


def test_info_shows_the_ladder(portable_bundle: Path) -> None:
    done = CliRunner().invoke(app, ["info", str(portable_bundle)])
    assert done.exit_code == 0
    assert "time against quality" in done.stdout and "SSIMULACRA2" in done.stdout
    assert "unrestored" in done.stdout


def test_a_ladder_is_checked(portable_bundle: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(portable_bundle, tmp_path / "broken"))
    edit_manifest(broken, lambda manifest: manifest["ladder"]["rungs"][0].update(ms=-1.0))
    with pytest.raises(BundleError, match=r"ladder\.rungs\.0\.ms"):
        Bundle(broken)


def test_ssimulacra2_knows_the_clean_image() -> None:
    clean = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert ssimulacra2(clean, clean) == pytest.approx(100.0)
    noisy = np.clip(clean.astype(int) + 40, 0, 255).astype(np.uint8)
    assert ssimulacra2(clean, noisy) < 95.0
