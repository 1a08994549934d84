"""What it means that the upstream refuses or fails: its status and its words, in our errors."""

import re
from typing import Any

import msgspec

from marketplace import (
    InvalidArgument,
    OversizedArgument,
    RateLimited,
    Refused,
    ServiceError,
    TimedOut,
    Unavailable,
)

__all__ = ["SOURCE", "Failure", "Upstream", "meaning"]

SOURCE = "openai"
"""Who is told to have failed."""

# As OpenAI, vLLM, llama.cpp, Anthropic's and Google's compatible servers say it.
_TOO_LONG_WORDS = {"context_length_exceeded", "exceed_context_size_error"}
_TOO_LONG = re.compile("maximum context length|context size|context window|prompt is too long", re.IGNORECASE)
_CONTEXT = re.compile(
    r"(?:maximum context length is|available context size \(|tokens >) ?(\d+)", re.IGNORECASE
)
_TOKENS = re.compile(r"(?:resulted in|requested|request \(|too long:) ?(\d+)", re.IGNORECASE)


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where the upstream is; ``model`` is the installed default, ``timeout`` bounds a call, in seconds."""

    base_url: str
    api_key: str
    model: str
    timeout: float
    organization: str | None = None
    project: str | None = None

    def __repr__(self) -> str:
        return f"Upstream(base_url={self.base_url!r}, model={self.model!r}, api_key=...)"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error: what it said, and the ``words`` for programs, where it gave any."""

    status: int
    said: str
    words: tuple[str | None, str | None] = (None, None)
    request_id: str | None = None
    retry_after: str | None = None


def meaning(failure: Failure, upstream: Upstream, model: str) -> ServiceError:
    """Return what ``failure`` means to the caller, who asked for ``model``."""
    about: dict[str, Any] = {"source": SOURCE, "status": failure.status}
    if failure.request_id:
        about["requestId"] = failure.request_id
    given = _printable(failure.retry_after)
    match failure.status:
        case status if 300 <= status < 400:
            text = "the upstream has moved elsewhere: install its new base URL"
            return Unavailable(text, reason="upstream_moved", retryable=False, **about)
        case 401 | 403:
            text = "the upstream refuses the installed API key"
            return Unavailable(text, reason="upstream_auth", retryable=False, **about)
        case 404:
            return _not_found(failure, upstream, model, about)
        case 408:
            return TimedOut("the upstream took too long", **about)
        case 429 if "insufficient_quota" in failure.words:
            text = "the quota of the installed API key is spent"
            return Unavailable(text, reason="quota", retryable=False, **about)
        case 429:
            return RateLimited("the upstream's rate limit is reached", retry_after=given, **about)
        case 400 | 413 | 422:
            return _refused(failure, upstream, about)
    return Unavailable(f"the upstream answered {failure.status}", retry_after=given, **about)


def _not_found(failure: Failure, upstream: Upstream, model: str, about: dict[str, Any]) -> ServiceError:
    if "model_not_found" not in failure.words and "model" not in failure.said:
        text = "the upstream has no chat completions at the installed base URL"
        return Unavailable(text, reason="upstream_not_found", retryable=False, **about)
    text = f"the upstream does not know the model {model[:100]}"
    about |= {"reason": "model_not_found", "retryable": False}
    if model != upstream.model:
        return InvalidArgument(text, parameter="aiModel", **about)
    return Unavailable(text, **about)


def _refused(failure: Failure, upstream: Upstream, about: dict[str, Any]) -> ServiceError:
    if _TOO_LONG_WORDS & {*failure.words} or _TOO_LONG.search(failure.said):
        text = "the conversation is longer than the model's context"
        about |= {"reason": "context_length_exceeded", **_context_tokens(failure.said)}
        return OversizedArgument(text, parameter="message", **about)
    return Refused(_redacted(failure.said, upstream.api_key), reason="refused", **about)


def _context_tokens(said: str) -> dict[str, int]:
    """Return how many tokens the context has, and how many the request, as far as the upstream tells."""
    limit, tokens = _CONTEXT.search(said), _TOKENS.search(said)
    return {"contextTokens": int(limit[1]), "tokens": int(tokens[1])} if limit and tokens else {}


def _printable(value: str | None) -> str | None:
    return value if value and re.fullmatch(r"[\x20-\x7e]+", value) else None


def _redacted(text: str, api_key: str) -> str:
    return re.sub(r"\b(sk|pk|key)-[\w*.-]{6,}", "...", text.replace(api_key, "..."))[:1000]
