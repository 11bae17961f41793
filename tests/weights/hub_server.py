"""A small server that speaks as much of the Hugging Face hub's API as a download needs.

Run by the tests on 127.0.0.1; clients find it through `HF_ENDPOINT`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        repositories: From `owner/name` to its files, from names to bytes.
        requests: Method, path and range of each request for a repository.
        wrong_sums: Names of files whose stated checksum is not theirs.
        cut: From names of files to the bytes after which the connection breaks, once.
        gated: Names of repositories that ask for a login.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.wrong_sums: set[str] = set()
        self.cut: dict[str, int] = {}
        self.gated: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sum(self, name: str, data: bytes) -> str:
        if name in self.wrong_sums:
            data += b"?"
        return hashlib.sha256(data).hexdigest()

    def downloads(self) -> list[str]:
        """Names of the files whose bytes were asked for."""
        return [
            path.split(f"/resolve/{COMMIT}/")[1]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        hub, path = self.server, self.path.split("?")[0]
        if path != "/api/agent-harnesses":  # the client's own statistics
            hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        if repository in hub.gated:
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        if repository not in hub.repositories:
            return self._send(404, {"X-Error-Code": "RepoNotFound"})
        files = hub.repositories[repository]
        revision = parts[5] if api and len(parts) > 5 else "main"
        if revision not in ("main", COMMIT):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        if api and "tree" in parts:
            return self._send_json([self._entry(*item) for item in files.items()])
        if api:
            siblings = [
                {"rfilename": entry["path"], "size": entry["size"], "lfs": entry["lfs"]}
                for entry in (self._entry(*item) for item in files.items())
            ]
            return self._send_json(
                {"id": repository, "sha": COMMIT, "siblings": siblings}
            )
        name = "/".join(parts[4:])
        if name not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound"})
        return self._send_file(name, files[name])

    def _entry(self, name: str, data: bytes) -> dict:
        digest = self.server.sum(name, data)
        lfs = {"oid": digest, "sha256": digest, "size": len(data), "pointerSize": 130}
        return {
            "type": "file",
            "path": name,
            "oid": digest[:40],
            "size": len(data),
            "lfs": lfs,
        }

    def _send_file(self, name: str, data: bytes):
        digest, start = self.server.sum(name, data), 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        headers = {
            "ETag": f'"{digest}"',
            "X-Repo-Commit": COMMIT,
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, headers, data[start:], name)

    def _send_json(self, value):
        data = json.dumps(value).encode()
        self._send(200, {"Content-Type": "application/json"}, data)

    def _send(self, status, headers, data=b"", name=None):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.server.cut:
            data = data[: self.server.cut.pop(name)]
            self.close_connection = True
        self.wfile.write(data)


@contextlib.contextmanager
def serving() -> Iterator[HubServer]:
    """A running server; it ends with the block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
