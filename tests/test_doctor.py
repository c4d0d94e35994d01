"""What ``elir-trt doctor`` finds, on machines that a test makes up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from elir_trt import _core, backends
from elir_trt.doctor import Finding, examine


def found(subject: str) -> Finding:
    (finding,) = [finding for finding in examine() if finding.subject == subject]
    return finding


def test_devices_that_are_compiled_in_and_devices_that_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu", "cuda"], raising=False)
    monkeypatch.setattr(_core, "devices", lambda: ["cpu"])
    monkeypatch.setattr(_core, "cuda_problem", lambda: "there is no driver")
    finding = found("core")
    assert finding.usable
    assert finding.detail == (
        "devices compiled in: cpu, cuda; usable here: cpu; cuda is not usable: there is no driver"
    )
    monkeypatch.setattr(_core, "compiled_devices", lambda: ["cpu"])
    assert found("core").detail == "devices compiled in: cpu; usable here: cpu"


def test_every_backend_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("half of it is missing")

    toys = [
        SimpleNamespace(
            name="toy",
            devices=("cpu", "cuda"),
            probe=lambda: SimpleNamespace(usable=True, version="1.2", reason=None),
        ),
        SimpleNamespace(
            name="gone",
            devices=("cpu",),
            probe=lambda: SimpleNamespace(usable=False, version=None, reason="it is not installed"),
        ),
        SimpleNamespace(name="broken", devices=("cpu",), probe=broken),
    ]
    monkeypatch.setattr(backends, "registry", lambda: toys)
    assert found("backend toy") == Finding("backend toy", True, "1.2 on cpu, cuda")
    assert found("backend gone") == Finding("backend gone", False, "it is not installed")
    assert found("backend broken") == Finding("backend broken", False, "RuntimeError: half of it is missing")


def test_it_finds_what_is_here() -> None:
    subjects = {finding.subject for finding in examine()}
    assert {f"backend {name}" for name in backends.names()} <= subjects
    assert {"core", "GPU", "images", "videos", "bundles", "cache"} <= subjects
    assert found("images").usable
