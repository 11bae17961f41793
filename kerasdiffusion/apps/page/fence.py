"""What of Gradio's application may be asked, and which files it may be handed.

A mounted Gradio checks no paths in what a browser sends, and fetches addresses in them:
here neither reaches it. A browser is told to ask nobody but this server.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.server.core import parsed
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.guards import refuse

#: What a browser asks of the page, and nothing beside it.
_WHOLE = {
    *("", "/", "/config", "/config/", "/theme.css", "/favicon.ico", "/manifest.json"),
    *("/robots.txt", "/gradio_api/upload", "/gradio_api/upload_progress"),
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/cancel"),
    *("/gradio_api/reset", "/gradio_api/component_server", "/gradio_api/app_id"),
    *("/gradio_api/startup-events", "/gradio_api/info", "/gradio_api/theme.css"),
    *("/gradio_api/component_server/", "/gradio_api/reset/", "/gradio_api/info/"),
}
_BEGUN = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_FILE, _JOIN = "/gradio_api/file=", "/gradio_api/queue/join"
#: Where from a browser may load, and whom it may ask.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
#: Levels of lists and objects that are looked into.
_DEEPEST = 50


class Fence:
    """Stands between the server and Gradio.

    Args:
        app: Gradio's application.
        handed: Where the files are that it may be handed and may hand out.
    """

    def __init__(self, app, handed: Handed):
        self.app, self.handed = app, handed

    async def __call__(self, scope, receive, send):
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            self._check_path(path)
            if path == _JOIN:
                content = await _body(receive)
                self.check_files(parsed(content))
                receive = _again(content, receive)
        except ValueError as error:
            await refuse(send, scope["path"], Refused(422, str(error)))
            return
        except Refused as error:
            await refuse(send, scope["path"], error)
            return

        begun = False

        async def tell(message):
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Refused as error:  # (of a body that has no end)
            if begun:
                raise
            await refuse(send, scope["path"], error)

    def _check_path(self, path: str) -> None:
        if path in _WHOLE or path.startswith(_BEGUN):
            return
        if path.startswith(_FILE):
            self._check_file(unquote(path.removeprefix(_FILE)))
            return
        raise Refused(404, "There is no such page.")

    def check_files(self, value, depth: int = 0) -> None:
        """That each file in what a browser sends is one that it uploaded or was given.

        Raises:
            Refused: If one is not, or is an address.
        """
        if depth > _DEEPEST:
            raise Refused(422, "A page's request must be less nested.")
        if isinstance(value, dict):
            path, url = value.get("path"), value.get("url")
            if path is not None and ("meta" in value or "orig_name" in value or url):
                self._check_file(path)
            if isinstance(url, str) and url.startswith("data:"):
                raise Refused(422, "A picture must be uploaded, or be dropped.")
            for each in value.values():
                self.check_files(each, depth + 1)
        elif isinstance(value, list):
            for each in value:
                self.check_files(each, depth + 1)

    def _check_file(self, path) -> None:
        if not isinstance(path, str) or not self.handed.is_inside(path):
            raise Refused(
                403, "A file must be one that was uploaded here, or painted here."
            )


async def _body(receive: Callable) -> bytes:
    """All of a request's body; the guards count it."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _again(content: bytes, receive: Callable) -> Callable:
    """What gives a body that has been read, and then what comes."""
    there = [{"type": "http.request", "body": content, "more_body": False}]

    async def replay():
        return there.pop() if there else await receive()

    return replay
