"""A running host as the commands see it: asked over HTTP, with nothing but the standard library."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from marketplace.arguments import Argument
from marketplace.errors import CallFailed, NoHost
from marketplace.manifest import SERVICES

__all__ = ["HostClient", "RemoteMethod", "RemoteService"]

LOOK = 2.0
"""Seconds to find out whether there is a host."""

LARGEST = 64 * 1024 * 1024
"""How many bytes of an answer are read."""

Result = TypeVar("Result")


class RemoteMethod(msgspec.Struct, frozen=True):
    """One operation of a service, as its host describes it."""

    name: str
    verb: str
    route: str
    arguments: list[Argument]


class RemoteService(msgspec.Struct, frozen=True, kw_only=True):
    """A service as its host describes it; ``reason`` says why it failed."""

    name: str
    version: str
    state: str
    reason: str | None = None
    notice: str | None = None
    methods: list[RemoteMethod] = []


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    code: int | str
    message: str
    error_data: dict[str, Any] = {}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Follow none: it would turn a POST into a GET."""


class HostClient:
    """Calls the host at ``url``; every call may raise `NoHost`."""

    def __init__(self, url: str) -> None:
        self.url = url
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def services(self, *, timeout: float = LOOK) -> list[RemoteService]:
        """Return what the host serves; ``timeout`` is in seconds, for all of it.

        Raises:
            NoHost: if it does not say.
        """
        body = self._within(timeout, lambda: self._fetch(SERVICES, None, timeout))
        try:
            return msgspec.json.decode(body, type=list[RemoteService])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NoHost(f"{self.url} answers, but not as a host does: {error}.") from error

    def call(self, path: str, arguments: Mapping[str, Any], *, timeout: float) -> Any:
        """Call the method at ``path``, and return its answer; ``timeout`` is in seconds, for all of it.

        Raises:
            NoHost: if the host does not answer.
            CallFailed: if it answers with an error.
        """
        return self._decoded(self._within(timeout, lambda: self._fetch(path, arguments, timeout)))

    @contextmanager
    def answer(
        self, path: str, arguments: Mapping[str, Any], *, accept: str, pause: float
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Call the method at ``path``; yield the type of its answer, and its lines as they come.

        It may take ``pause`` seconds to the next line.

        Raises:
            NoHost: if the host does not answer, or stops amid it.
            CallFailed: if it answers with an error.
        """
        with self._failures(pause), self._open(path, arguments, accept, pause) as response:
            yield response.headers.get_content_type(), iter(response)

    def _fetch(self, path: str, arguments: Mapping[str, Any] | None, timeout: float) -> bytes:
        with self._open(path, arguments, "application/json", timeout) as response:
            return bytes(response.read(LARGEST))

    def _open(
        self, path: str, arguments: Mapping[str, Any] | None, accept: str, timeout: float
    ) -> http.client.HTTPResponse:
        headers = {"Accept": accept}
        if arguments is not None:
            headers["Content-Type"] = "application/json"
        body = None if arguments is None else msgspec.json.encode(arguments)
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - `host_url` has looked
        response: http.client.HTTPResponse = self._opener.open(request, timeout=timeout)
        return response

    def _within(self, seconds: float, call: Callable[[], Result]) -> Result:
        """Return what ``call`` does; its own timeout bounds each wait, but not their sum."""
        results: list[Result] = []
        failures: list[Exception] = []

        def run() -> None:
            try:
                results.append(call())
            except Exception as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        thread = threading.Thread(target=run, name="call", daemon=True)
        thread.start()
        thread.join(seconds)
        with self._failures(seconds):
            if failures:
                raise failures[0]
            if not results:
                raise TimeoutError
        return results[0]

    @contextmanager
    def _failures(self, seconds: float) -> Iterator[None]:
        """Turn what the standard library raises into our errors."""
        try:
            yield
        except urllib.error.HTTPError as error:
            self._refuse(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoHost(f"No host answers at {self.url}: {_told(error, seconds)}") from error

    def _refuse(self, error: urllib.error.HTTPError) -> NoReturn:
        try:
            envelope = msgspec.json.decode(_rest(error), type=_Envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            text = f"{self.url} answers, but not as a host does: {error.code} {error.reason}."
            raise NoHost(text) from error
        raise _failed(envelope) from error

    def _decoded(self, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NoHost(f"{self.url} answers, but not with JSON: {error}.") from error

    @staticmethod
    def failure(body: bytes) -> CallFailed:
        """Return the error that an envelope, come in the midst of a stream, tells of."""
        try:
            return _failed(msgspec.json.decode(body, type=_Envelope))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return CallFailed("The host tells of an error that cannot be read.")


def _rest(file: IO[bytes]) -> bytes:
    try:
        return file.read(LARGEST)
    except (OSError, http.client.HTTPException):
        return b""


def _told(error: Exception, seconds: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"nothing came within {seconds:g} s."
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if isinstance(cause, ConnectionRefusedError):
        return f"{said}. Start one with `marketplace serve`, or name another in MARKETPLACE_URL."
    return f"{said}."


def _failed(envelope: _Envelope) -> CallFailed:
    hint = envelope.error_data.get("hint")
    return CallFailed(f"{envelope.code} {envelope.message}{f' ({hint})' if hint else ''}")
