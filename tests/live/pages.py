"""A page over a session of a test's own, and a browser that is driven over its debugging port (CDP)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from live_parts import SlowRestorer

from elir_trt.io import Source
from elir_trt.live import Fanout, LiveSource, Monitor, Page, Session, Settings
from elir_trt.live.sources import TestPattern

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
        if (path := shutil.which(name))
    ),
    None,
)


@contextmanager
def serving(
    *,
    camera: Callable[[], Source] = lambda: TestPattern((180, 320), 30.0),
    restorer: Any = None,
    others: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[Page, Session]]:
    """A page that shows a test pattern through a restorer that inverts it."""
    monitor = Monitor()
    page = Page(options.pop("address", "127.0.0.1:0"), **options)
    source = LiveSource(camera, name="test", monitor=monitor)
    found = {"slow": restorer or SlowRestorer(0.005), **(others or {})}
    session = Session(
        source,
        Fanout({"page": page}, monitor=monitor),
        found.__getitem__,
        Settings("slow"),
        offered=tuple(others or ()),
    )
    page.serve(session)
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    try:
        yield page, session
    finally:
        session.stop()
        thread.join(20)
        session.close()
        source.close()
        assert not thread.is_alive()


class Browser:
    """Chromium without a screen: one tab, driven by the Chrome DevTools Protocol."""

    def __init__(self, channel: aiohttp.ClientWebSocketResponse) -> None:
        self._channel = channel
        self._number = 0
        self.errors: list[str] = []
        self.downloads: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        await self._channel.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self._channel.receive_json(), 20)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method", ""), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:500])
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    async def run(self, script: str) -> Any:
        """The value of an expression."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str, seconds: float = 20.0) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (found := await self.run(script)):
            assert time.monotonic() < end, f"it did not come to be: {script}; {self.errors}"
            await asyncio.sleep(0.05)
        return found

    async def open(self, url: str) -> None:
        """Go to a page."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Be a screen of a size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        await self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def key(self, name: str) -> None:
        """Press a key."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name]
            )

    async def drag(
        self, start: tuple[float, float], end: tuple[float, float], *, touch: bool = False
    ) -> None:
        """Draw a mouse or a finger from one place to another."""
        steps = [
            (start[0] + (end[0] - start[0]) * n / 4, start[1] + (end[1] - start[1]) * n / 4) for n in range(5)
        ]
        if touch:
            for n, (x, y) in enumerate(steps):
                kind = "touchMove" if n else "touchStart"
                await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
            await self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        for n, (x, y) in enumerate(steps):
            kind = "mouseMoved" if n else "mousePressed"
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
            )
        await self.call(
            "Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left", clickCount=1
        )

    async def place(self, element: str) -> tuple[float, float]:
        """The middle of an element on the screen."""
        box = await self.run(
            f"(() => {{ const b = document.getElementById({element!r}).getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return box[0], box[1]

    async def screenshot(self, path: Path) -> None:
        """What the screen shows, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def chromium() -> Iterator[str]:
    """A running Chromium; gives the address of its debugging port."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = Path(profile) / "DevToolsActivePort"
            end = time.monotonic() + 30
            while not (port.exists() and port.read_text().strip()):
                assert time.monotonic() < end and process.poll() is None, "chromium does not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text().split()[0]}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def drive(address: str, do: Callable[..., Any], tabs: int = 1) -> None:
    """Run a coroutine with tabs of a browser."""

    async def run() -> None:
        async with aiohttp.ClientSession() as client:
            browsers = []
            for _ in range(tabs):
                async with client.put(f"{address}/json/new?about:blank") as answer:
                    target = await answer.json()
                channel = await client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
                browser = Browser(channel)
                for domain in ("Page", "Runtime", "Log"):
                    await browser.call(f"{domain}.enable")
                browsers.append(browser)
            await do(*browsers)
            for browser in browsers:
                assert browser.errors == []
                await browser._channel.close()

    asyncio.run(run())
