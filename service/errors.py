"""Errors to HTTP answers: one table, one envelope. The only place that knows the numbers.

Codes and texts are those of Backendless' published list.
"""

import math
from typing import Any

import msgspec
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from marketplace import errors as e

__all__ = [
    "TABLE",
    "AccessDenied",
    "Answer",
    "BodyTimedOut",
    "BodyTooLarge",
    "HeadTooLarge",
    "MethodNotFound",
    "ServiceNotFound",
    "WrongVerb",
    "answer_to",
    "from_litestar",
]


class ServiceNotFound(e.NotFound):
    """No service of that name is installed."""

    source = "host"


class MethodNotFound(e.NotFound):
    """The path leads to no method."""

    source = "host"


class WrongVerb(e.NotFound):
    """The path leads to a method, but not with this verb; ``allow`` are those it takes."""

    source = "host"

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class AccessDenied(e.ServiceError):
    """Who calls may not."""

    source = "host"


class HeadTooLarge(e.InvalidArgument):
    """The request line and the headers have more bytes than allowed."""


class BodyTooLarge(e.InvalidArgument):
    """The body has more bytes than allowed."""


class BodyTimedOut(e.InvalidArgument):
    """The caller did not finish sending the body in time."""


class _Row(msgspec.Struct, frozen=True):
    status: int
    code: int
    text: str


_PARSE = "Could not parse request with message: {text}"
_FAILED = "Service invocation failed: {text}"

TABLE: dict[type[e.MarketplaceError], _Row] = {
    ServiceNotFound: _Row(404, 14001, "Service not found"),
    MethodNotFound: _Row(404, 14002, "Service method not found"),
    WrongVerb: _Row(405, 14002, "Service method not found"),
    AccessDenied: _Row(403, 14008, "Access denied"),
    HeadTooLarge: _Row(431, 8000, "Invalid value range"),
    BodyTooLarge: _Row(413, 8000, "Invalid value range"),
    BodyTimedOut: _Row(408, 8002, _PARSE),
    e.MalformedBody: _Row(400, 8002, _PARSE),
    e.NotAnObject: _Row(400, 8004, "Parsing input json params failed"),
    e.UnsupportedType: _Row(415, 17002, "The Content-Type {type} is not supported."),
    e.MissingArgument: _Row(400, 8007, "Missing parameter '{parameter}'."),
    e.NullArgument: _Row(400, 8006, "Invalid NULL param for request"),
    e.EmptyArgument: _Row(400, 8005, "Invalid empty param for request"),
    e.OversizedArgument: _Row(400, 8000, "Invalid value range"),
    e.InvalidArgument: _Row(400, 8008, "Invalid parameter '{parameter}'"),
    e.NotFound: _Row(404, 1000, "Entity with the specified ID cannot be found: Id - {id}"),
    e.Conflict: _Row(409, 1155, "Duplicate entry"),
    e.Busy: _Row(409, 14004, _FAILED),
    e.RateLimited: _Row(429, 999, "Cannot process request - request per second limit has been exhausted"),
    e.Refused: _Row(400, 14000, "{text}"),
    e.OutOfSpace: _Row(503, 16000, _FAILED),
    e.Unavailable: _Row(503, 14004, _FAILED),
    e.TimedOut: _Row(504, 14005, "Service invocation failed by timeout"),
    Exception: _Row(500, 0, "Internal error"),  # type: ignore[dict-item]
}


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer that is an error: its status, its headers and its body, the envelope."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_failure(self) -> bool:
        """Whether somebody but the caller is at fault."""
        return self.status >= 500


class _Envelope(msgspec.Struct, omit_defaults=True):
    code: int
    message: str
    error_data: dict[str, Any] = msgspec.field(name="errorData", default_factory=dict)


def answer_to(error: Exception) -> Answer:
    """Return the answer to ``error``; what is not ours is an internal error that tells nothing."""
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    if not isinstance(error, e.ServiceError):
        return _answer(row, _Envelope(row.code, row.text), {})
    text = str(error)
    message = row.text.format_map(_Details(error.details, text=text))
    data = _error_data(error, text, is_told="{text}" in row.text)
    return _answer(row, _Envelope(row.code, message, data), _headers(error))


def from_litestar(error: Exception) -> Exception:
    """Return what an exception of Litestar's means; any other comes back as it is."""
    match error:
        case NotFoundException():
            return MethodNotFound()
        case MethodNotAllowedException():
            return WrongVerb({k.lower(): v for k, v in (error.headers or {}).items()}["allow"])
        case HTTPException() if error.status_code < 500:
            return e.MalformedBody(error.detail[:200])
    return error


class _Details(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def _answer(row: _Row, envelope: _Envelope, headers: dict[str, str]) -> Answer:
    content_type = {"Content-Type": "application/json"}
    return Answer(row.status, content_type | headers, msgspec.json.encode(envelope))


def _error_data(error: e.ServiceError, text: str, *, is_told: bool) -> dict[str, Any]:
    data = dict(error.details)
    if error.source:
        data |= {"source": error.source, "retryable": error.retryable}
    if error.reason:
        data["reason"] = error.reason
    if text and not is_told:
        data["hint"] = text
    return data


def _headers(error: e.ServiceError) -> dict[str, str]:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = _seconds(error.retry_after)
    if isinstance(error, WrongVerb):
        headers["Allow"] = error.allow
    if isinstance(error, BodyTimedOut):
        headers["Connection"] = "close"  # nobody waits for the rest
    return headers


def _seconds(retry_after: float | str) -> str:
    return retry_after if isinstance(retry_after, str) else str(max(1, math.ceil(retry_after)))
