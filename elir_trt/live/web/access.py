"""Who may look at the page: addresses, tokens, hosts and origins."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from elir_trt.errors import ElirError

SHORTEST_TOKEN = 12
"""Characters of a token at least: nobody tries so many."""

AUTO = "auto"
"""As a token: one is made up."""

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: a name or a number; "" is every network of this machine.
        port: 0: any that is free.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether programs of this machine alone reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """To be opened in a browser of this machine."""
        host = self.host
        if host in ("", "0.0.0.0", "::"):  # every network: also this one
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def parse_address(text: str) -> Address:
    """Read "127.0.0.1:8080", "[::1]:8080", "localhost:8080" or ":8080", which is every network.

    Raises:
        ElirError: it is no such text.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ElirError(f"--serve is {text!r}; expected HOST:PORT, such as 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ElirError(f"--serve is {text!r}; an IPv6 address stands in brackets, such as [::1]:8080")
    return Address(host, int(port))


class Access:
    """Decides about requests.

    Attributes:
        token: that they have to bring; None: none is needed.
    """

    def __init__(self, address: Address, token: str | None = None, origins: Iterable[str] = ()) -> None:
        """Take the rules.

        Args:
            address: that is listened on.
            token: needed unless the address is of the loopback; "auto" makes one up.
            origins: of other pages that may use this server, such as "https://cameras.example".

        Raises:
            ElirError: a token is missing or too short, or an origin is none.
        """
        if token == AUTO:
            token = secrets.token_urlsafe(24)
        if token is None and not address.is_loopback:
            raise ElirError(
                f"--serve {address.host or '*'}:{address.port} can be reached from other machines and needs --token "
                "(or the variable ELIR_TRT_TOKEN); --token auto makes one up"
            )
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise ElirError(f"the token has {len(token)} characters; expected {SHORTEST_TOKEN} or more")
        self.token = token
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        for origin in self._origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise ElirError(f"--origin is {origin!r}; expected such as https://cameras.example")
        names = {urlsplit(origin).hostname or "" for origin in self._origins}
        self._hosts = {*_LOCAL_NAMES, address.host.lower(), *names}

    def allows_token(self, given: str | None) -> bool:
        """Whether a token is the right one; takes as long for a wrong one, wherever it is wrong."""
        if self.token is None:
            return True
        return hmac.compare_digest(_digest(given or ""), _digest(self.token))

    @property
    def cookie(self) -> str:
        """What a browser keeps in the token's stead: it opens this server, and does not tell the token."""
        return hmac.new((self.token or "").encode(), b"elir_trt cookie", hashlib.sha256).hexdigest()

    def allows_cookie(self, given: str | None) -> bool:
        """Whether a browser brings what :attr:`cookie` is."""
        return self.token is None or hmac.compare_digest(_digest(given or ""), _digest(self.cookie))

    def allows_host(self, host: str | None) -> bool:
        """Whether a request was meant for this server, by its header "Host".

        Without a token it must name this machine: else a page whose name was made to lead here could read all. With
        one, such a page has no cookie.
        """
        if self.token is not None:
            return True
        return host is not None and (urlsplit(f"//{host}").hostname or "") in self._hosts

    def allows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of that origin may change things here. Programs state none, and are no one's browser."""
        if origin is None:
            return True
        origin = origin.lower()
        if origin in self._origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and host is not None and parts.netloc == host.lower()


def _digest(text: str) -> bytes:
    # Of one length, so that not even the token's length is told.
    return hashlib.sha256(text.encode()).digest()
