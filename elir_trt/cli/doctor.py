"""``elir-trt doctor``."""

from __future__ import annotations


def doctor() -> None:
    """Show what is installed, which devices and backends are usable, and why not."""
    from elir_trt.doctor import examine

    marks = {True: "yes", False: "no", None: ""}
    for finding in examine():
        print(f"{finding.subject:24} {marks[finding.usable]:4} {finding.detail}")
