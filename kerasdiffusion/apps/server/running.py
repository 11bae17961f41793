"""An application behind sockets, until the process is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import uvicorn

from kerasdiffusion.apps.server.app import create_app
from kerasdiffusion.apps.server.core import Settings

#: Connections that may be open at once.
CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """Says where it listens, and closes the queue ahead of its sockets."""

    def __init__(self, config, core, say):
        super().__init__(config)
        self._core, self._say = core, say

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        for server in getattr(self, "servers", ()):
            for each in server.sockets[:1]:
                host, port = each.getsockname()[:2]
                host = f"[{host}]" if ":" in host else host
                self._say(f"http://{host}:{port}")
                return

    def handle_exit(self, sig, frame) -> None:
        # Not here: the thread that is interrupted may hold the queue's lock.
        end = self._core.cancel_all if self.should_exit else self._core.stop
        threading.Thread(target=end, daemon=True).start()
        self.should_exit = True  # a second signal ends what is painted, no more


def serve(
    settings: Settings,
    host: str,
    port: int,
    say: Callable[[str], None] = lambda where: None,
) -> int:
    """Serves until SIGTERM or Ctrl-C; what is painted then is finished.

    A second signal ends that too, within a step.

    Args:
        settings: How the server is set up.
        host: The address to listen on.
        port: The port; 0 for one that is free.
        say: Called with the address, when it is listened on.

    Returns:
        0.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",  # whose bound of all headers is known: 64 KiB
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
    )
    _Server(config, app.state.core, say).run()
    return 0
