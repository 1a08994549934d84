"""A fake host for the commands that call one: it chats, as a stream or plainly."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["SESSION", "FakeHost", "event"]

SESSION = "258cd588-422b-4b7f-b705-d9132e9e1226"
BASE = "/api/services/OpenAI"


def event(name: str, **data: Any) -> bytes:
    """Return an event of a stream."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class FakeHost:
    """What the host is to answer, and what it was asked: paths with their arguments."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, Any]] = []
        self.accepted: list[str] = []
        self.state: dict[str, Any] = {"state": "ok"}
        self.replies: list[list[bytes | float]] = []
        """Streams to answer messages with, one after the other: pieces, and seconds between them."""

    @contextmanager
    def serving(self) -> Iterator["FakeHost"]:
        """Serve on a free port until the block ends."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.send(self, fake.listing())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.asked.append((self.path, body))
                fake.accepted.append(self.headers["Accept"])
                fake.answer(self, body)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fake host")
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def listing(self) -> list[dict[str, Any]]:
        """Return what the host says of its services."""
        methods = [
            {"name": name, "verb": "POST", "route": f"{BASE}/{route}", "arguments": []}
            for name, route in {
                "createSession": "session",
                "sendMessage": "message",
                "getSessionMessages": "session-messages",
            }.items()
        ]
        return [{"name": "OpenAI", "version": "1.0.0", "summary": "", "methods": methods, **self.state}]

    def answer(self, request: BaseHTTPRequestHandler, arguments: dict[str, Any]) -> None:
        """Answer a call of a method."""
        if request.path.endswith("/createSession"):
            self.send(request, {"sessionId": SESSION})
        elif request.path.endswith("/getSessionMessages"):
            messages = [{"role": "user", "content": "Before"}, {"role": "assistant", "content": "Indeed"}]
            self.send(request, {"messages": messages, "aiModel": "m", "id": SESSION, "persistInDB": False})
        elif self.replies:
            self._stream(request, self.replies.pop(0))
        else:
            self.send(request, {"sessionId": SESSION, "responseMessage": f"{arguments['message']}?"})

    def send(self, request: BaseHTTPRequestHandler, value: Any) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _stream(self, request: BaseHTTPRequestHandler, pieces: list[bytes | float]) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream; charset=utf-8")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        try:
            for piece in pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    request.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            request.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the caller has gone
