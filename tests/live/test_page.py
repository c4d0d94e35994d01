"""The server of the page, as programs see it: access, pictures, messages, metrics."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from live_parts import Clip, SlowRestorer, until
from pages import serving

from elir_trt.errors import ElirError
from elir_trt.live import Page
from elir_trt.live.web.access import Access, parse_address
from elir_trt.live.web.prometheus import as_metrics
from elir_trt.live.web.viewers import UNSHOWN

TOKEN = "a token that is long"


def ask(do: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        # "unsafe": cookies of addresses in numbers.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            return await asyncio.wait_for(do(client), 30)

    return asyncio.run(run())


def get(url: str, **options: Any) -> tuple[int, bytes, Any]:
    async def do(client: aiohttp.ClientSession) -> tuple[int, bytes, Any]:
        async with client.get(url, allow_redirects=False, **options) as answer:
            return answer.status, await answer.read(), answer.headers

    found: tuple[int, bytes, Any] = ask(do)
    return found


def parts_of(message: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    start = 4 + length
    middle = start + header["before"]
    assert len(message) == middle + header["after"]
    return header, message[start:middle], message[middle:]


async def pictures(
    channel: Any, count: int, *, shown: bool = True
) -> list[tuple[dict[str, Any], bytes, bytes]]:
    found = []
    while len(found) < count:
        message = await channel.receive(timeout=10)
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if message.type == aiohttp.WSMsgType.BINARY:
            found.append(parts_of(message.data))
            if shown:
                await channel.send_json({"type": "shown", "id": found[-1][0]["id"]})
    return found


async def message_of(channel: Any, kind: str) -> dict[str, Any]:
    while True:
        message = await channel.receive(timeout=10)
        if message.type == aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == kind:
            return dict(json.loads(message.data))


def test_a_viewer_gets_pictures_before_and_after_with_what_is_known() -> None:
    async def do(client: aiohttp.ClientSession) -> None:
        async with client.ws_connect(f"{page.address.url}ws") as channel:
            found = await pictures(channel, 5)
            for header, before, after in found:
                one, other = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (before, after))
                assert one.shape == other.shape == (180, 320, 3)
                assert np.abs(255.0 - one - other).mean() < 3  # the restorer of the test inverts
                assert header["rung"] == "K=0" and header["stages"]["direct"] == 1.0
            numbers = [header["id"] for header, _, _ in found]
            assert numbers == sorted(set(numbers))
            await channel.send_json({"type": "view", "compare": False})
            later = await pictures(channel, 4)
            assert later[-1][1] == b"" and later[-1][2]

    with serving() as (page, _):
        ask(do)


def test_two_pictures_are_under_way_and_a_stalled_viewer_stops_nobody() -> None:
    async def do(client: aiohttp.ClientSession) -> None:
        url = f"{page.address.url}ws"
        async with client.ws_connect(url) as stalled, client.ws_connect(url) as quick:
            held = await pictures(stalled, UNSHOWN, shown=False)
            found = await pictures(quick, 20)
            assert found[-1][0]["id"] > held[-1][0]["id"] + 10
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pictures(stalled, 1, shown=False), 0.5)
            # When it goes on, it gets the newest, and not what it missed.
            await stalled.send_json({"type": "shown", "id": held[-1][0]["id"]})
            (following,) = await pictures(stalled, 1)
            assert following[0]["id"] > found[-1][0]["id"]

    with serving(camera=lambda: Clip(rate=60.0, size=(64, 96))) as (page, session):
        ask(do)
        assert session.monitor.snapshot()["sinks"]["page"]["dropped"] < 20
        until(lambda: page._hub.count == 0)


def test_who_does_not_read_at_all_stops_nobody() -> None:
    """A viewer whose socket is full: acknowledged pictures are sent until no more goes into it."""

    async def do(client: aiohttp.ClientSession) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", page.address.port)
        writer.write(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with client.ws_connect(f"{page.address.url}ws") as quick:
            await pictures(quick, 150)
        assert (await reader.read(15)).startswith(b"HTTP/1.1 200 OK")
        writer.close()

    with serving(camera=lambda: Clip(rate=100.0, size=(480, 640))) as (page, session):
        ask(do)
        until(lambda: page._hub.count == 0)
        assert session.monitor.snapshot()["sinks"]["page"]["error"] == ""


def test_settings_and_numbers_go_over_the_socket() -> None:
    async def do(client: aiohttp.ClientSession) -> None:
        async with client.ws_connect(f"{page.address.url}ws") as channel:
            settings = await message_of(channel, "settings")
            assert settings["allowed"]["steps"] == [0, 4] and settings["bundle"] == "slow"
            await channel.send_json({"type": "set", "changes": {"steps": 3}})
            assert (await message_of(channel, "settings"))["steps"] == 3
            await channel.send_json({"type": "set", "changes": {"steps": 9}})
            assert "allows 0 to 4" in (await message_of(channel, "error"))["message"]
            await channel.send_str("[]")
            assert "JSON object" in (await message_of(channel, "error"))["message"]
            await channel.send_json({"type": "latency", "p50": "x"})
            assert "p50 is 'x'" in (await message_of(channel, "error"))["message"]
            await channel.send_json({"type": "latency", "p50": 20, "p95": 30, "p99": 40})
            stats = await message_of(channel, "stats")
            while not stats["displays"]:
                stats = await message_of(channel, "stats")
            assert stats["displays"][stats["you"]] == {"p50": 20.0, "p95": 30.0, "p99": 40.0}
            await channel.send_json({"type": "ping", "sent": 12.5})
            assert (await message_of(channel, "pong"))["sent"] == 12.5
            await channel.send_json({"type": "set", "changes": {"bundle": "other"}})
            assert (await message_of(channel, "settings"))["title"] == "Restorer other"

    with serving(others={"other": SlowRestorer(name="other")}) as (page, session):
        ask(do)
        assert session.settings.bundle == "other"
        until(lambda: session.monitor.snapshot()["displays"] == {})


def test_files_snapshots_streams_and_health() -> None:
    with serving() as (page, session):
        url = page.address.url
        until(lambda: session.monitor.snapshot()["restored"] > 2)
        status, body, headers = get(url)
        assert status == 200 and b"<title>elir_trt live" in body
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        names = re.findall(rb'(?:href|src)="/([a-z.]+)"', body)
        assert len(names) == 2
        for name in (*names, b"plot.js", b"divider.js"):
            assert get(url + name.decode())[0] == 200
        assert get(f"{url}../server.py")[0] == get(f"{url}nothing")[0] == 404
        for view in ("before", "after"):
            status, body, headers = get(f"{url}snapshot.png?view={view}")
            assert status == 200 and cv2.imdecode(np.frombuffer(body, np.uint8), 1).shape == (180, 320, 3)
            assert headers["Content-Disposition"].startswith(f'attachment; filename="elir-{view}-')
        assert get(f"{url}snapshot.png?view=all")[0] == 400
        assert get(f"{url}healthz")[:2] == (200, b'{"state": "live"}')

        async def read(client: aiohttp.ClientSession) -> bytes:
            async with client.get(f"{url}stream.mjpg") as answer:
                assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
                return await answer.content.readexactly(20_000)

        stream = ask(read)
        assert stream.startswith(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ")
        length = int(re.findall(rb"Length: (\d+)\r\n\r\n\xff\xd8", stream)[0])
        assert stream[stream.index(b"\r\n\r\n") + 4 + length :].startswith(b"\r\n--frame") or length > 19_000


def test_metrics_are_prometheus() -> None:
    with serving() as (page, session):
        until(lambda: session.monitor.snapshot()["restored"] > 2)
        status, body, headers = get(f"{page.address.url}metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = body.decode().splitlines()
    types = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    for line in lines:
        if not line.startswith("#"):
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.]+', line), line
            assert re.split(r"[{ ]", line)[0] in types
    assert 'elir_dropped_total{reason="overtaken"} ' in body.decode()
    assert "elir_source_up 1" in lines
    snapshot = session.monitor.snapshot()
    snapshot["sinks"] = {'a"b\\c': snapshot["sinks"]["page"]}
    assert r'{sink="a\"b\\c"}' in as_metrics(snapshot, 0)


def test_a_source_that_is_lost_is_not_healthy() -> None:
    with serving(camera=lambda: Clip(3, then="hang")) as (page, session):
        until(lambda: session.monitor.state == "live")
        session.monitor.set_state("stalled", "no frame for 5 s")
        assert get(f"{page.address.url}healthz")[:2] == (503, b'{"state": "stalled"}')


def test_a_token_opens_the_page_and_nothing_else_does() -> None:
    with serving(token=TOKEN) as (page, _):
        url = page.address.url
        assert page.url == f"{url}?token={TOKEN}"
        status, body, _ = get(url)
        assert status == 401 and b'name="token"' in body
        for path in ("ws", "metrics", "snapshot.png", "stream.mjpg", "?token=wrong", "ws?token=wrong"):
            assert get(url + path)[0] == 401, path
        assert get(f"{url}healthz")[0] == 200
        assert get(f"{url}metrics", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert get(f"{url}metrics", headers={"Authorization": f"Bearer {TOKEN[:-1]}"})[0] == 401
        # The address with the token leads to the page without it, by a cookie that does not tell it.
        status, _, headers = get(page.url)
        assert status == 303 and headers["Location"] == "/"
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        kept = {"Cookie": cookie.partition(";")[0]}
        assert get(url, headers=kept)[0] == 200 and get(f"{url}metrics", headers=kept)[0] == 200
        assert get(url, headers={"Cookie": "elir_trt=0"})[0] == 401

        async def login(client: aiohttp.ClientSession) -> None:
            async with client.post(f"{url}login", data={"token": "wrong"}) as answer:
                assert answer.status == 401
            async with client.post(f"{url}login", data={"token": TOKEN}, allow_redirects=False) as answer:
                assert answer.status == 303
            async with client.ws_connect(f"{url}ws") as channel:
                await pictures(channel, 1)

        ask(login)


def test_other_pages_are_kept_out() -> None:
    with serving(origins=["https://cameras.example"]) as (page, _):
        url, port = page.address.url, page.address.port
        assert (
            get(url, headers={"Host": f"evil.example:{port}"})[0] == 403
        )  # a name that was made to lead here
        assert get(url, headers={"Host": f"localhost:{port}"})[0] == 200

        async def do(client: aiohttp.ClientSession) -> None:
            for origin in ("https://evil.example", f"http://127.0.0.1:{port + 1}", "null"):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await client.ws_connect(f"{url}ws", headers={"Origin": origin})
            for origin in (f"http://127.0.0.1:{port}", "https://cameras.example"):
                async with client.ws_connect(f"{url}ws", headers={"Origin": origin}) as channel:
                    await pictures(channel, 1)

        ask(do)


def test_access_beyond_the_loopback_needs_a_token() -> None:
    for text in ("0.0.0.0:80", ":80", "192.168.1.2:80", "[::]:80", "camera.example:80"):
        address = parse_address(text)
        assert not address.is_loopback
        with pytest.raises(ElirError, match="needs --token"):
            Access(address)
        assert Access(address, TOKEN).allows_host("anything.example")
    for text in ("127.0.0.1:80", "localhost:80", "[::1]:80", "127.8.8.8:80"):
        assert parse_address(text).is_loopback
        assert Access(parse_address(text)).allows_token(None)
    made = Access(parse_address(":80"), "auto").token
    assert made is not None and len(made) >= 32
    assert made != Access(parse_address(":80"), "auto").token
    for text in ("8080", "host", "host:port", "host:70000", "::1:80"):
        with pytest.raises(ElirError, match="--serve is"):
            parse_address(text)
    for origin in ("cameras.example", "https://a/b", "ftp://a"):
        with pytest.raises(ElirError, match="--origin is"):
            Access(parse_address("127.0.0.1:1"), origins=[origin])


def test_a_port_that_is_taken_is_one_error() -> None:
    with (
        serving() as (page, _),
        pytest.raises(ElirError, match="cannot listen there: Address already in use"),
    ):
        Page(f"127.0.0.1:{page.address.port}")
    with pytest.raises(ElirError, match="quality"):
        Page("127.0.0.1:0", quality=0)
