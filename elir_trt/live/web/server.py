"""The server of the page: static files, a WebSocket of pictures, MJPEG, snapshots, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from elir_trt.errors import ElirError, MediaError
from elir_trt.extras import needs
from elir_trt.io.source import Frame
from elir_trt.live.fanout import LiveSink
from elir_trt.live.frame import LiveFrame
from elir_trt.live.session import Session
from elir_trt.live.web.access import Access, Address, parse_address
from elir_trt.live.web.pictures import Picture, as_bgr, as_jpeg, as_png, header_of
from elir_trt.live.web.prometheus import CONTENT_TYPE, as_metrics
from elir_trt.live.web.viewers import Hub, Viewer, read_latency, read_message

with needs("aiohttp", extra="live", what="the page of a live run"):
    from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from elir_trt.stream import Result

_STATIC = {
    "live.css": "text/css",
    "live.js": "text/javascript",
    "plot.js": "text/javascript",
    "divider.js": "text/javascript",
}
_COOKIE = "elir_trt"
_STATS_S = 0.5
_HEARTBEAT_S = 20.0
_MESSAGE_BYTES = 4096
# A wrong token costs its guesser as much time, and nobody else any.
_REFUSAL_S = 0.5
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",  # with "no-referrer" a browser does not say where its forms come from
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# Open to everybody: they tell nothing about the pictures.
_OPEN = ("/healthz", "/login", *(f"/{name}" for name in _STATIC))


class Page(LiveSink):
    """Shows results to browsers. It listens from the beginning, and serves from :meth:`serve` on.

    Attributes:
        address: that it listens on, with its port.
        access: who may look.
    """

    pixel_format = "bgr24"

    def __init__(
        self,
        address: str = "127.0.0.1:8080",
        *,
        token: str | None = None,
        origins: Iterable[str] = (),
        quality: int = 85,
    ) -> None:
        """Listen.

        Args:
            address: HOST:PORT; a port of 0 takes any.
            token: that viewers need; see :class:`elir_trt.live.web.access.Access`.
            origins: of other pages that may use this server.
            quality: of JPEG, 1 to 100.

        Raises:
            ElirError: the address is none, is taken, or needs a token; the quality is out of its range.
        """
        if not 1 <= quality <= 100:
            raise ElirError(f"the quality of pictures is {quality}; expected 1 to 100")
        wanted = parse_address(address)
        self.access = Access(wanted, token, origins)
        self._socket = _listen(wanted)
        self.address = Address(wanted.host, self._socket.getsockname()[1])
        self._quality = quality
        self._hub = Hub()
        self._session: Session | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="elir-page", daemon=True)
        self._started = threading.Event()
        # Both pictures of a frame are encoded at once.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="elir-jpeg")
        self._number = 0
        self._latest: tuple[Result, Frame] | None = None

    @property
    def url(self) -> str:
        """For whoever runs it, the token with it."""
        token = "" if self.access.token is None else f"?token={self.access.token}"
        return f"{self.address.url}{token}"

    # The side of the stream

    def serve(self, session: Session) -> None:
        """Begin to answer.

        Args:
            session: that is shown and controlled.
        """
        self._session = session
        self._thread.start()
        self._started.wait()

    def write(self, result: Result, frame: Frame) -> None:
        """Give a result to the viewers who are ready for one."""
        self._latest = (result, frame)
        anybody, compared = self._hub.wants()
        if not anybody or self._session is None:
            return
        self._number += 1
        captured_s = frame.captured_s if isinstance(frame, LiveFrame) else time.monotonic()
        other = self._encoder.submit(self._encoded_before, frame) if compared else None
        after = as_jpeg(result.frame, self._quality)
        before = None if other is None else other.result()
        picture = Picture(self._number, header_of(result, captured_s), before, after)
        self._loop.call_soon_threadsafe(self._hub.publish, picture)

    def _encoded_before(self, frame: Frame) -> bytes:
        assert self._session is not None
        return as_jpeg(as_bgr(frame, self._session.source.pixel_format), self._quality)

    def close(self, *, complete: bool = True) -> None:
        """Stop serving."""
        self._encoder.shutdown()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._socket.close()

    def abort(self) -> None:
        """Stop serving."""
        self.close()

    # The side of the browsers

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        try:
            loop.run_until_complete(runner.setup())
            loop.run_until_complete(web.SockSite(runner, self._socket).start())
            self._started.set()
            telling = loop.create_task(self._tell_stats())
            loop.run_forever()
            telling.cancel()
            loop.run_until_complete(runner.cleanup())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            self._started.set()
            loop.close()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=_MESSAGE_BYTES)
        app.router.add_get("/", self._page)
        app.router.add_post("/login", self._login)
        app.router.add_get("/ws", self._socket_of_viewer)
        app.router.add_get("/stream.mjpg", self._mjpeg)
        app.router.add_get("/snapshot.png", self._snapshot)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        for name in _STATIC:
            app.router.add_get(f"/{name}", self._static)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let in who may come, and have browsers keep to the rules."""
        access = self.access
        if not access.allows_host(request.headers.get("Host")):
            return _refusal(403, "this server answers to the names of this machine alone")
        changes = request.method != "GET" or request.path == "/ws"
        if changes and not access.allows_origin(request.headers.get("Origin"), request.headers.get("Host")):
            return _refusal(403, "pages of other servers may not use this one (--origin allows them)")
        if request.path not in _OPEN and not await self._is_let_in(request):
            if request.path == "/" and "token" not in request.query:
                return _html("login.html", status=401)
            return _refusal(401, "a token is needed: /?token=..., or the header Authorization: Bearer ...")
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = _refusal(error.status, error.reason)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _is_let_in(self, request: web.Request) -> bool:
        access = self.access
        if access.allows_cookie(request.cookies.get(_COOKIE)):
            return True
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        given = given if kind.lower() == "bearer" else request.query.get("token", "")
        if access.allows_token(given):
            return True
        if given:
            await asyncio.sleep(_REFUSAL_S)
        return False

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:
            return self._welcome()
        return _html("index.html")

    async def _login(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if not self.access.allows_token(str(form.get("token", ""))):
            await asyncio.sleep(_REFUSAL_S)
            return _html("login.html", status=401)
        return self._welcome()

    def _welcome(self) -> web.StreamResponse:
        """To the page, with a cookie and without the token, which would stay in the history."""
        response = web.Response(status=303, headers={"Location": "/"})
        if self.access.token is not None:
            response.set_cookie(_COOKIE, self.access.cookie, httponly=True, samesite="Strict")
        return response

    async def _static(self, request: web.Request) -> web.StreamResponse:
        name = request.path[1:]
        return web.Response(body=_resource(name), content_type=_STATIC[name], charset="utf-8")

    async def _socket_of_viewer(self, request: web.Request) -> web.StreamResponse:
        channel = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MESSAGE_BYTES, compress=False)
        await channel.prepare(request)
        viewer = self._hub.add()
        assert self._session is not None
        viewer.tell("settings", self._session.describe())
        sending = asyncio.ensure_future(self._send(viewer, channel))
        try:
            async for message in channel:
                if message.type != WSMsgType.TEXT:
                    break
                try:
                    await self._take(viewer, read_message(message.data))
                except ElirError as error:
                    viewer.tell("error", {"message": str(error)})
        finally:
            self._hub.viewers.discard(viewer)
            self._session.monitor.set_display(viewer.name, None)
            sending.cancel()
        return channel

    async def _send(self, viewer: Viewer, channel: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                message = await viewer.next()
                if isinstance(message, bytes):
                    await channel.send_bytes(message)
                else:
                    await channel.send_str(message)

    async def _take(self, viewer: Viewer, message: dict[str, Any]) -> None:
        """Do what a page asks for."""
        session = self._session
        assert session is not None
        kind = message["type"]
        if kind == "shown" and isinstance(message.get("id"), int):
            viewer.note_shown(message["id"])
        elif kind == "ping":
            viewer.tell("pong", {"sent": message.get("sent"), "now_ms": time.monotonic() * 1e3})
        elif kind == "view":
            viewer.compare = message.get("compare") is True
        elif kind == "latency":
            session.monitor.set_display(viewer.name, read_latency(message))
        elif kind == "set" and isinstance(message.get("changes"), dict):
            try:
                # A bundle may have to be opened; pictures go on meanwhile.
                await self._loop.run_in_executor(None, session.change, message["changes"])
            finally:
                self._hub.tell("settings", session.describe())
        else:
            raise ElirError(f"there is no message {kind!r}, or it lacks something")

    async def _mjpeg(self, request: web.Request) -> web.StreamResponse:
        boundary = "frame"
        kind = f"multipart/x-mixed-replace; boundary={boundary}"
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": kind})
        await response.prepare(request)
        queue: asyncio.Queue[Picture] = asyncio.Queue(1)
        self._hub.plain.add(queue)
        try:
            while True:
                picture = await queue.get()
                head = f"--{boundary}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.after)}\r\n\r\n"
                await response.write(head.encode() + picture.after + b"\r\n")
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._hub.plain.discard(queue)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        view = request.query.get("view", "after")
        if view not in ("before", "after"):
            return _refusal(400, f"view is {view!r}; allowed: before, after")
        if self._latest is None:
            return _refusal(503, "no frame was restored yet")
        result, frame = self._latest
        data = await self._loop.run_in_executor(None, self._png, result, frame, view)
        name = f"elir-{view}-{time.strftime('%Y%m%d-%H%M%S')}.png"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=data, content_type="image/png", headers=headers)

    def _png(self, result: Result, frame: Frame, view: str) -> bytes:
        assert self._session is not None
        return as_png(as_bgr(frame, self._session.source.pixel_format) if view == "before" else result.frame)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        text = as_metrics(self._session.monitor.snapshot(), self._hub.count)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        """200 while frames come, else 503."""
        assert self._session is not None
        state = self._session.monitor.state
        return web.json_response({"state": state}, status=200 if state == "live" else 503)

    async def _tell_stats(self) -> None:
        while True:
            await asyncio.sleep(_STATS_S)
            if self._hub.viewers and self._session is not None:
                snapshot = self._session.monitor.snapshot()
                for viewer in self._hub.viewers:
                    viewer.tell(
                        "stats",
                        {**snapshot, "viewers": self._hub.count, "lost": viewer.lost, "you": viewer.name},
                    )


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise MediaError(
            f"--serve {address.host}:{address.port}: cannot listen there: {error.strerror or error}"
        ) from None
    return listening


def _resource(name: str) -> bytes:
    return files("elir_trt.live.web").joinpath("static", name).read_bytes()


def _html(name: str, status: int = 200) -> web.Response:
    return web.Response(
        body=_resource(name), status=status, content_type="text/html", charset="utf-8", headers=_HEADERS
    )


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(text=f"{text}\n", status=status, headers=_HEADERS)
