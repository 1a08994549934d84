"""HTTP/1.1 as uvicorn speaks it, with three things mended.

A request that offers to upgrade (``Upgrade: h2c``, which Java's client sends with every call) keeps its
body; the size of a head is bounded; and what is no HTTP at all is answered in the contract's shape.
"""

import logging
import uuid
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from marketplace.errors import MalformedBody, ServiceError
from service.errors import HeadTooLarge, answer_to
from service.log import request_id

__all__ = ["MAX_HEAD", "Protocol"]

log = logging.getLogger("marketplace.requests")

MAX_HEAD = 64 * 1024
"""Bytes that the request line and the headers may have together, or trailers; give or take a read."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_size = 0
        self._is_in_body = False
        self._is_resumed = False

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            return self._refuse(MalformedBody("this is no HTTP"))
        if self._head_size > MAX_HEAD:
            return self._refuse(HeadTooLarge(f"a request's head may have at most {MAX_HEAD} bytes"))
        return None

    def _feed(self, data: bytes) -> None:
        while data:
            self._head_size += len(data)
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._resume()
        return None

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._is_resumed:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        if not self._is_resumed:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body is none."""
        if not self._is_resumed and not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, now that the head is there."""
        self._is_in_body = True
        self._head_size = 0
        if not self._is_resumed:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; what is counted is what lies between such parts."""
        self._head_size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's body, unless an offered upgrade is all that ends."""
        if not self._is_resumed and self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._is_in_body = self._is_resumed = False
        self._head_size = 0

    def _resume(self) -> None:
        """Go on where the parser stopped for an upgrade that we do not take.

        A new parser gets a head that says how long the body is, and no more.
        """
        framing = (b"content-length", b"transfer-encoding")
        lines = [name + b": " + value for name, value in self.headers if name in framing]
        self._is_resumed = True
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", b""]))

    def _refuse(self, error: ServiceError) -> None:
        identity = uuid.uuid4().hex
        request_id.set(identity)
        answer = answer_to(error)
        log.info("%s %s", answer.status, error)
        request_id.set("-")
        headers = {
            **answer.headers,
            "Content-Length": len(answer.body),
            "X-Request-Id": identity,
            "Connection": "close",
        }
        head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + answer.body)
        self.transport.close()
