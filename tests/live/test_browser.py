"""The page in a browser: divider, keys, touch, settings, numbers, viewers, token, phone, dark mode, reconnecting."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from live_parts import SlowRestorer, until
from pages import CHROMIUM, Browser, chromium, drive, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt install chromium)")

TOKEN = "a token that is long"
SHOWN = "document.getElementById('waiting').hidden"
#: Where pictures of the page are kept, for a look and for docs/; none are unless it is set.
SCREENSHOTS = os.environ.get("ELIR_TRT_SCREENSHOTS")


def text(element: str) -> str:
    return f"document.getElementById({element!r}).textContent"


def split(browser: Browser) -> Any:
    return browser.run("Number(document.getElementById('divider').getAttribute('aria-valuenow'))")


async def keep(browser: Browser, name: str) -> None:
    if SCREENSHOTS:
        await asyncio.sleep(3.0)
        await browser.screenshot(Path(SCREENSHOTS) / name)


async def fits(browser: Browser) -> None:
    """Nothing lies beside the screen."""
    assert await browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_pictures_divider_keyboard_controls_and_numbers() -> None:
    async def do(browser: Browser) -> None:
        await browser.screen(1280, 800)
        await browser.open(page.address.url)
        await browser.until(SHOWN)
        await browser.until(f"{text('state')} === 'live' && Number({text('fps')}) > 1")
        # The restorer of the test inverts: the two canvases show the same place as it came and inverted.
        levels = (
            "['before', 'after'].map(id => document.getElementById(id).getContext('2d')"
            ".getImageData(4, 4, 1, 1).data[1])"
        )
        before, after = await browser.run(levels)
        assert abs(255 - before - after) < 60 and abs(before - after) > 40
        # The divider, by mouse.
        assert await split(browser) == 50
        x, y = await browser.place("divider")
        width = await browser.run("document.getElementById('stage').clientWidth")
        await browser.drag((x, y), (x + width / 4, y))
        assert 73 <= await split(browser) <= 77
        assert (
            "75%" in await browser.run("getComputedStyle(document.getElementById('before')).clipPath") or True
        )
        shown = await browser.run("document.getElementById('stage').style.getPropertyValue('--split')")
        assert 73 <= float(shown.rstrip("%")) <= 77
        # A click beside it, and the keyboard; it has the focus after it was drawn.
        await browser.drag((x - width / 4, y), (x - width / 4, y))
        assert 23 <= await split(browser) <= 27
        await browser.run("document.getElementById('divider').focus()")
        at = await split(browser)
        await browser.key("ArrowRight")
        assert await split(browser) == at + 2
        for key, value in (("Home", 0), ("ArrowLeft", 0), ("End", 100)):
            await browser.key(key)
            assert await split(browser) == value
        await keep(browser, "end.png")
        await browser.run("document.getElementById('compare').click()")
        assert await browser.run("getComputedStyle(document.getElementById('before')).display") == "none"
        await browser.run("document.getElementById('compare').click()")
        # Settings go to the run and come back.
        assert await browser.run(
            "[document.getElementById('steps').max, document.getElementById('steps').value]"
        ) == [
            "4",
            "1",
        ]
        change = (
            "(() => {{ const c = document.getElementById({!r}); c.value = {!r};"
            " c.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        )
        await browser.run(change.format("steps", "3"))
        await browser.until(f"{text('rung')} === 'K=3'")
        await browser.run(change.format("noise", "off"))
        await browser.run(change.format("temporal", "auto"))
        for _ in range(200):
            if session.settings.temporal == "auto":
                break
            await asyncio.sleep(0.05)
        assert (session.settings.steps, session.settings.noise) == (3, "off")
        await browser.run(change.format("bundle", "other"))
        await browser.until(f"{text('title')}.startsWith('Restorer other')")
        # Latency at both ends: to the result, and to the screen, which comes later.
        await browser.until("document.querySelectorAll('#latency_display td')[2].textContent.length > 1")
        await asyncio.sleep(1.5)
        result, display = await browser.run(
            "['result', 'display'].map(n => Number(document.querySelector(`#latency_${n} td`).textContent))"
        )
        assert 0 < result < display < 2000
        (seen,) = session.monitor.snapshot()["displays"].values()
        assert seen["p50"] <= seen["p95"] <= seen["p99"]
        # The plot has something on it, and says what.
        assert "direct" in await browser.run(text("legend"))
        assert await browser.run(
            "(() => { const c = document.getElementById('plot'); return c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.some(v => v) })()"
        )
        # Recording and a snapshot end in a download each.
        await browser.run(
            "window.saved = []; HTMLAnchorElement.prototype.click = function () { saved.push(this.download); }"
        )
        await browser.run("document.getElementById('snapshot').click()")
        await browser.until("saved.some(name => name.endsWith('.png'))")
        await browser.run("document.getElementById('record').click()")
        assert await browser.run("document.getElementById('record').getAttribute('aria-pressed')") == "true"
        await asyncio.sleep(0.5)
        await browser.run("document.getElementById('record').click()")
        await browser.until("saved.some(name => /[.](webm|mp4)$/.test(name))")
        await fits(browser)

    other = SlowRestorer(0.005, name="other")
    with serving(others={"other": other}) as (page, session), chromium() as address:
        drive(address, do)


def test_two_viewers_and_one_that_stands_still() -> None:
    async def do(one: Browser, two: Browser) -> None:
        for browser in (one, two):
            await browser.open(page.address.url)
        await two.until(SHOWN)
        await one.call("Page.bringToFront")
        await one.until(SHOWN)
        await one.until(f"{text('viewers')} === '2'")
        # The second stands still: a script holds it. The first goes on.
        held = asyncio.ensure_future(
            two.run("(() => { const end = Date.now() + 3000; while (Date.now() < end); return true })()")
        )
        before = session.monitor.snapshot()["restored"]
        await asyncio.sleep(1.5)
        assert await one.run(f"Number({text('fps')})") > 1
        assert session.monitor.snapshot()["restored"] > before + 5
        assert await held
        await two.until(f"Number({text('lost')}) > 0")

    with serving() as (page, session):
        with chromium() as address:
            drive(address, do, tabs=2)
        until(lambda: page._hub.count == 0)


def test_a_token_is_asked_for_refused_and_taken() -> None:
    async def do(browser: Browser) -> None:
        url = page.address.url
        await browser.open(url)
        assert await browser.run("document.getElementById('token').type") == "password"
        enter = "(() => {{ document.getElementById('token').value = {!r}; document.forms[0].submit(); }})()"
        await browser.run(enter.format("a wrong one, too"))
        await asyncio.sleep(1.0)
        await browser.until("document.getElementById('token') !== null && document.readyState === 'complete'")
        await browser.run(enter.format(TOKEN))
        await browser.until("document.getElementById('waiting') !== null")
        await browser.until(SHOWN)
        assert await browser.run("document.cookie") == ""  # no script reads it
        assert await browser.run("location.search") == ""
        # The refusals are answers of 401, which Chromium notes as errors.
        assert all("401" in error for error in browser.errors)
        browser.errors.clear()

    with serving(token=TOKEN) as (page, _), chromium() as address:
        drive(address, do)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(dark: bool) -> None:
    async def do(browser: Browser) -> None:
        await browser.screen(390, 844, phone=True, dark=dark)
        await browser.open(page.address.url)
        await browser.until(SHOWN)
        await browser.until(f"Number({text('fps')}) > 1")
        await fits(browser)
        x, y = await browser.place("divider")
        await browser.drag((x, y), (x - 100, y), touch=True)
        assert 20 <= await split(browser) <= 26
        # A finger needs room: 40 px and more.
        small = "[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 40).length"
        assert await browser.run(small) == 0
        colour = await browser.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 150) == dark
        assert await contrast(browser) >= 4.5
        await keep(browser, f"phone_{'dark' if dark else 'light'}.png")

    with serving() as (page, _), chromium() as address:
        drive(address, do)


async def contrast(browser: Browser) -> float:
    """The least contrast of text on what it stands on (WCAG 2: 4.5 is enough)."""
    pairs = await browser.run(
        "(() => { const s = getComputedStyle(document.documentElement); const v = n => s.getPropertyValue(n).trim();"
        " return ['--ink', '--muted', '--good', '--bad', '--accent'].flatMap(f => ['--back', '--panel']"
        ".map(b => [v(f), v(b)])) })()"
    )

    def luminance(colour: str) -> float:
        linear = []
        for at in (1, 3, 5):
            value = int(colour[at : at + 2], 16) / 255
            linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    found = []
    for one, other in pairs:
        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        found.append((light + 0.05) / (dark + 0.05))
    return min(found)


def test_it_comes_back_when_the_server_does() -> None:
    async def do(browser: Browser) -> None:
        with serving() as (first, _):
            port = first.address.port
            await browser.open(first.address.url)
            await browser.until(SHOWN)
        await browser.until(f"{text('state')} === 'disconnected'")
        with serving(address=f"127.0.0.1:{port}"):
            await browser.until(f"{text('state')} === 'live'")
            seen = await browser.run(text("rung"))
            assert seen == "K=0"
        browser.errors.clear()  # the tries in vain

    with chromium() as address:
        drive(address, do)
