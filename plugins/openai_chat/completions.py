"""The call to OpenAI, or to any server that speaks its Chat Completions.

The only module that knows the `openai` package. It sends a ready body through the package's client: its
typed ``chat.completions.create`` walks every message of the history at each call.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
import msgspec
import openai

from marketplace import (
    InvalidArgument,
    OversizedArgument,
    RateLimited,
    Refused,
    ServiceError,
    TimedOut,
    Unavailable,
)
from plugins.openai_chat.chat import Message
from plugins.openai_chat.transport import Transport

__all__ = ["ChatCompletions", "Upstream", "to_service_error"]

SOURCE = "openai"


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


class _Request(msgspec.Struct):
    model: str
    messages: Sequence[Message]


class _ReplyMessage(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _ReplyMessage


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_encode = msgspec.json.Encoder().encode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_models = msgspec.json.Decoder(_Models).decode
_JSON = openai.RequestOptions(headers={"Content-Type": "application/json"})


class ChatCompletions:
    """The upstream, called through the `openai` client."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        # Whom to bill and what else to send is what was installed, whatever the environment says.
        ambient = {name: openai.Omit() for name in _ambient_headers()}
        self._client = openai.AsyncOpenAI(
            api_key=upstream.api_key,
            base_url=upstream.base_url,
            max_retries=0,
            timeout=upstream.timeout,
            http_client=httpx2.AsyncClient(
                transport=Transport(upstream.base_url),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                headers={"Accept-Encoding": "gzip, deflate"},
            ),
            default_headers={**ambient, "Authorization": f"Bearer {upstream.api_key}"},  # type: ignore[dict-item]
        )
        self._client.organization = upstream.organization
        self._client.project = upstream.project

    async def complete(self, model: str, messages: Sequence[Message]) -> str:
        """Return the reply to the last of ``messages``; a refusal's text is a reply, too.

        Raises:
            ServiceError: what the upstream does, mapped by `to_service_error`.
        """
        body = _encode(_Request(model, messages))
        try:
            async with asyncio.timeout(self._upstream.timeout):
                response = await self._client.post(
                    "/chat/completions", content=body, cast_to=httpx2.Response, options=_JSON
                )
            message = _decode_completion(response.content).choices[0].message
        except Exception as error:
            raise to_service_error(error, self._upstream, model) from error
        reply = message.content or message.refusal or message.content
        if reply is None:
            raise _malformed("it gives neither content nor a refusal")
        return reply.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL

    async def models(self) -> list[str]:
        """Return the names of the upstream's models; some servers have no such list.

        Raises:
            InvalidArgument: if the key is refused.
            ServiceError: what else the upstream does, mapped by `to_service_error`.
        """
        try:
            async with asyncio.timeout(self._upstream.timeout):
                response = await self._client.get("/models", cast_to=httpx2.Response)
            return [model.id for model in _decode_models(response.content).data]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            text = f"{self._upstream.base_url} refuses this key ({error.status_code})"
            raise InvalidArgument(text, parameter="apiKey") from error
        except (openai.NotFoundError, msgspec.MsgspecError):
            return []
        except Exception as error:
            raise to_service_error(error, self._upstream, self._upstream.model) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def to_service_error(error: Exception, upstream: Upstream, model: str) -> ServiceError:
    """Return what a failed call means to the caller: the one place where the upstream's errors are mapped.

    ``model`` is the one that was asked for. What is none of the upstream's errors is raised again.
    """
    match error:
        case openai.APIStatusError():
            return _status_error(error, upstream, model)
        case TimeoutError() | openai.APITimeoutError():
            return TimedOut("the upstream took too long", source=SOURCE)
        case openai.APIConnectionError():
            return _unreachable()
        case openai.OpenAIError():
            return Unavailable("the call to the upstream failed", source=SOURCE)
        case msgspec.MsgspecError() | UnicodeDecodeError() | RecursionError() | IndexError():
            return _malformed("it is no chat completion")
    raise error


def _unreachable() -> Unavailable:
    return Unavailable("the upstream cannot be reached, or cut the connection", source=SOURCE)


def _malformed(text: str) -> Unavailable:
    return Unavailable(f"the upstream's answer cannot be used: {text}", source=SOURCE, reason="malformed")


def _status_error(error: openai.APIStatusError, upstream: Upstream, model: str) -> ServiceError:
    about: dict[str, Any] = {"source": SOURCE, "status": error.status_code}
    if error.request_id:
        about["requestId"] = error.request_id
    given = _printable(error.response.headers.get("retry-after"))
    is_quota = "insufficient_quota" in (error.code, error.type)
    match error.status_code:
        case status if 300 <= status < 400:
            text = "the upstream has moved elsewhere: install its new base URL"
            return Unavailable(text, reason="upstream_moved", retryable=False, **about)
        case 401 | 403:
            text = "the upstream refuses the installed API key"
            return Unavailable(text, reason="upstream_auth", retryable=False, **about)
        case 404:
            return _not_found(error, upstream, model, about)
        case 408:
            return TimedOut("the upstream took too long", **about)
        case 429 if is_quota:
            text = "the quota of the installed API key is spent"
            return Unavailable(text, reason="quota", retryable=False, **about)
        case 429:
            return RateLimited("the upstream's rate limit is reached", retry_after=given, **about)
        case 400 | 413 | 422:
            return _refused(error, upstream, about)
    return Unavailable(f"the upstream answered {error.status_code}", retry_after=given, **about)


def _not_found(
    error: openai.APIStatusError, upstream: Upstream, model: str, about: dict[str, Any]
) -> ServiceError:
    if error.code != "model_not_found" and "model" not in _message(error):
        text = "the upstream has no chat completions at the installed base URL"
        return Unavailable(text, reason="upstream_not_found", retryable=False, **about)
    text = f"the upstream does not know the model {model[:100]}"
    about |= {"reason": "model_not_found", "retryable": False}
    if model != upstream.model:
        return InvalidArgument(text, parameter="aiModel", **about)
    return Unavailable(text, **about)


def _refused(error: openai.APIStatusError, upstream: Upstream, about: dict[str, Any]) -> ServiceError:
    if error.code == "context_length_exceeded" or "maximum context length" in _message(error):
        text = "the conversation is longer than the model's context"
        return OversizedArgument(text, parameter="message", reason="context_length_exceeded", **about)
    return Refused(_redacted(_message(error), upstream.api_key), reason="refused", **about)


def _message(error: openai.APIStatusError) -> str:
    """Return what the upstream said, in whichever of the usual shapes."""
    match error.body:
        case {"message": str(text)} | {"detail": str(text)} | {"error": str(text)}:
            return text.encode(errors="replace").decode()
    return f"the upstream refused the request ({error.status_code})"


def _printable(value: str | None) -> str | None:
    return value if value and re.fullmatch(r"[\x20-\x7e]+", value) else None


def _ambient_headers() -> list[str]:
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return [line.partition(":")[0].strip() for line in lines if ":" in line]


def _redacted(text: str, api_key: str) -> str:
    return re.sub(r"\b(sk|pk|key)-[\w*.-]{6,}", "...", text.replace(api_key, "..."))[:1000]
