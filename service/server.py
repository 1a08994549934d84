"""The processes that serve: one, or as many as there are workers, on one listening socket."""

import contextlib
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from service.protocol import Protocol

__all__ = ["run"]

GRACE = 120
"""Seconds that requests in flight may take after SIGTERM; a turn takes no longer as it is installed."""


def run(listener: socket.socket, workers: int) -> None:
    """Serve on ``listener`` until SIGTERM or Ctrl-C; requests in flight are finished."""
    config = uvicorn.Config(
        "service.app:from_environment",
        factory=True,
        workers=workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    if workers == 1:
        server = _Server(config)
        server.run([listener])
        # Not sys.exit: it would wait for a thread that waits for a database that hangs.
        os._exit(0 if server.started else 1)
    Multiprocess(config, sockets=[listener]).run()


class _Server(uvicorn.Server):
    """Ends without complaint when it is told to, and says why it may take a while."""

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # The signals are raised once more at the end, for whoever started the server; that is us.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        with contextlib.suppress(KeyboardInterrupt):
            super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        under_way = len(self.server_state.tasks)
        if self.should_exit and sig == signal.SIGINT:
            sys.stderr.write(f"Stopped at once; {under_way} requests were cut off.\n")
            os._exit(1)  # what is stored is whole at any instant
        if under_way and not self.should_exit:
            sys.stderr.write(f"Finishing {under_way} requests. Ctrl-C cuts them off.\n")
        super().handle_exit(sig, frame)
