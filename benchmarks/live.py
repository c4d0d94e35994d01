"""Where the time goes from a camera to a browser: ``python benchmarks/live.py``.

A test pattern is restored, and a headless Chromium looks at the page and measures when it shows each frame.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import elir_trt
from elir_trt.cpu import cpu_flags
from elir_trt.live import Fanout, Monitor, Page, Session, Settings, open_source


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts and latencies of a run with one browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium: apt install chromium")
    monitor, page = Monitor(), Page("127.0.0.1:0")
    with open_source(arguments.source, monitor=monitor) as source, tempfile.TemporaryDirectory() as profile:
        session = Session(
            source,
            Fanout({"page": page}, monitor=monitor),
            elir_trt.open,
            Settings("camera", steps=arguments.steps, temporal=arguments.temporal),
        )
        page.serve(session)
        run = threading.Thread(target=session.run, daemon=True)
        run.start()
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        # A browser that opens a debugging port stays open.
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port=0", page.url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(arguments.seconds)
            return monitor.snapshot()
        finally:
            browser.terminate()
            browser.wait()
            session.stop()
            run.join()
            session.close()


def table(found: dict[str, Any]) -> str:
    """Medians, from one end to the other, in Markdown."""
    displays = list(found["displays"].values())
    if not displays:
        sys.exit("the browser has measured nothing")
    stages = {name: value for name, value in found["stages_ms"].items() if value and name != "total"}
    engines = {
        name: stages.pop(name) for name in list(stages) if name not in ("load", "store", "start", "step")
    }
    result, page, display = (
        found["latency_ms"],
        found["sinks"]["page"]["latency_ms"],
        displays[0],
    )
    inside = sum(engines.values()) + sum(stages.values())
    rows = [
        ("waiting for the engines, and handing over", result["p50"] - inside),
        *((f"core: {name}", value) for name, value in stages.items()),
        *((f"engine: {name}", value) for name, value in engines.items()),
        ("page: two JPEGs", page["p50"] - result["p50"]),
        ("browser: socket, decoding, drawing, its next frame", display["p50"] - page["p50"]),
    ]
    lines = ["| from capture to display | ms |", "|---|---|"]
    lines += [f"| {name} | {value:.1f} |" for name, value in rows]
    for name, values in (("restored", result), ("encoded", page), ("shown", display)):
        lines.append(
            f"| {name}: p50, p95, p99 | {values['p50']:.1f}, {values['p95']:.1f}, {values['p99']:.1f} |"
        )
    own = page["p50"] - sum(engines.values())
    lines.append(
        f"| all but engines and browser | {own:.1f}, {100 * own / display['p50']:.0f} % of the way |"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="test:640x360@10")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--temporal", default="off")
    parser.add_argument("--seconds", type=float, default=40.0)
    found = measure(parser.parse_args())
    print(
        f"{cpu_flags()[0]}; {found['restored']} frames, {found['fps']:.1f} a second, dropped {found['dropped']}\n"
    )
    print(table(found))


if __name__ == "__main__":
    main()
