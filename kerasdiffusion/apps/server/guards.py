"""Who may ask, how much at once, and on whose behalf: ahead of every route."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from kerasdiffusion.apps.server.errors import Refused, body
from kerasdiffusion.storage.bounds import BOUNDS

#: Bytes of bodies that are held at once at most: times what one may have.
_BODIES = 8
#: Seconds for which a body that is refused is still taken, and forgotten.
_PATIENCE = 1.0
#: What anyone may ask: whether the server lives.
OPEN = ("/health",)
_LOCAL = ("localhost",)
_METHODS = "GET, POST, PATCH, DELETE, OPTIONS"


class Guards:
    """Refuses what is not for this server, before anything of it is read.

    A page of another site can have a browser send requests here; it cannot choose
    their `Host`, nor hide their `Origin`.

    Args:
        app: What is guarded, an ASGI application.
        keys: Keys of which a request must have one (`Authorization: Bearer`).
        users: `user:password`, of which one will do too (`Basic`). Without keys and
            users nobody is asked.
        hosts: Names that this server goes by, beside addresses, `localhost` and the
            machine's own name; of all names in a domain, with a dot ahead.
        origins: Origins of pages that may ask from a browser, as
            `https://example.org`.
        asks_people: Whether a browser asks who its user is; a key will do as password.
        most: Bytes of a request's body.
    """

    def __init__(
        self,
        app,
        keys: Iterable[str] = (),
        users: Iterable[str] = (),
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        asks_people: bool = False,
        most: int | None = None,
    ):
        self.app, self.asks_people = app, asks_people
        self.keys, self.users = list(map(_digest, keys)), list(map(_digest, users))
        self.hosts = {name.lower() for name in (*_LOCAL, *hosts, socket.gethostname())}
        self.origins = {origin.lower().rstrip("/") for origin in origins}
        self.most = BOUNDS["server_body"].most if most is None else most
        self.held = 0

    async def __call__(self, scope, receive, send):
        """One request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        try:
            self._check_host(headers)
            origin = self._check_origin(headers)
            if origin and scope["method"] == "OPTIONS":
                await _answer(send, 204, b"", _cors(origin, headers))
                return
            if scope["path"] not in OPEN:
                self._check_key(headers)
            self._check_size(headers.get("content-length"))
        except Refused as error:
            if error.status == 413:
                await _hear_out(headers, receive)
            await refuse(send, scope["path"], error)
            return

        async def tell(message):
            is_start = message["type"] == "http.response.start"
            if is_start and message["status"] >= 400 and not ended:
                await _hear_out(headers, receive)
            if origin and is_start:
                more = [(b"access-control-allow-origin", origin.encode("latin-1"))]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        counted, ended = 0, False

        async def bounded():
            nonlocal counted, ended
            message = await receive()
            ended = not message.get("more_body")
            length = len(message.get("body", b""))
            counted, self.held = counted + length, self.held + length
            if counted > self.most:
                raise _too_large(self.most)
            if self.held > _BODIES * self.most:
                raise _too_many()
            return message

        try:
            await self.app(scope, bounded, tell)
        finally:
            self.held -= counted

    def _check_host(self, headers) -> None:
        given = headers.get("host", "")
        name = (urlsplit(f"//{given}").hostname or "") if _is_plain(given) else ""
        domain = f".{name.partition('.')[2]}"
        if name in self.hosts or _is_address(name) or domain in self.hosts:
            return
        raise Refused(
            403,
            "The request's Host must be an address or a name of this server, see "
            f"--allow-host. Received: {given[:100]!r}",
        )

    def _check_origin(self, headers) -> str | None:
        """The origin of a page of another site that may ask; `None` for no such."""
        given = headers.get("origin")
        if given is None:
            if headers.get("sec-fetch-site") == "cross-site":
                raise _foreign("another site")
            return None
        own = urlsplit(given).netloc if _is_plain(given) else ""
        if own and own.lower() == headers.get("host", "").lower():
            return None
        if given.lower() in self.origins:
            return given
        raise _foreign(repr(given[:100]))

    def _check_key(self, headers) -> None:
        if not self.keys and not self.users:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode("utf-8")
            except (binascii.Error, ValueError):
                given = ""
            found = _compared(given.strip(), self.users)
            if self.asks_people:
                found += _compared(given.partition(":")[2].strip(), self.keys)
        else:
            found = _compared(given.strip(), self.keys * (kind.lower() == "bearer"))
        if not any(found):
            by_name = self.users or self.asks_people
            kind = 'Basic realm="kerasdiffusion"' if by_name else "Bearer"
            raise Refused(
                401,
                "The request must have a key or a user that this server knows.",
                WWW_Authenticate=kind,
            )

    def _check_size(self, length: str | None) -> None:
        if length is None:
            return
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise Refused(400, "Content-Length must be a whole number.")
        if int(length) > self.most:
            raise _too_large(self.most)


async def _hear_out(headers, receive) -> None:
    """Takes what is left of a body that is refused, for a moment.

    Most clients send all of it before they read, and take a connection that is closed
    on them for a failure without a reason. Who asks first, is told first.
    """
    if "expect" in headers:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE
    with contextlib.suppress(asyncio.TimeoutError):
        while (left := end - loop.time()) > 0.0:
            message = await asyncio.wait_for(receive(), left)
            if not message.get("more_body"):
                return


async def refuse(send, path: str, error: Refused) -> None:
    """Answers with an error in the shape of the API that was asked."""
    content = json.dumps(body(path, error)).encode()
    more = [(k.lower().encode(), x.encode()) for k, x in error.headers.items()]
    head = [(b"content-type", b"application/json"), (b"connection", b"close"), *more]
    await _answer(send, error.status, content, head)


async def _answer(send, status: int, content: bytes, headers) -> None:
    head = [*headers, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": content})


def _cors(origin: str, headers) -> list[tuple[bytes, bytes]]:
    asked = headers.get("access-control-request-headers", "")
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", _METHODS.encode()),
        (b"access-control-allow-headers", asked[:500].encode("latin-1")),
        (b"vary", b"Origin"),
    ]


def _headers(scope) -> dict[str, str]:
    return {k.decode("latin-1"): x.decode("latin-1") for k, x in scope["headers"]}


def _digest(text: str) -> bytes:
    """Of one length, whatever was given: a comparison tells nothing of it."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _compared(given: str, known: list[bytes]) -> list[bool]:
    """Which of these it is; all are looked at, whatever comes first."""
    return [hmac.compare_digest(_digest(given), each) for each in known]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set('\\"<> ')


def _foreign(what: str) -> Refused:
    return Refused(
        403,
        "A browser's request must come from this server's own pages, see "
        f"--allow-origin. Received: one of {what}",
    )


def _too_large(most: int) -> Refused:
    return Refused(413, f"A request's body must have at most {most} bytes.")


def _too_many() -> Refused:
    return Refused(
        503, "Others are sending as much as can be held; ask again.", Retry_After=5
    )
