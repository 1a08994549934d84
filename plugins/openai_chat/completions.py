"""The call to OpenAI, or to any server that speaks its Chat Completions.

The only module that knows the `openai` package. It sends a ready body through the package's client: its
typed ``chat.completions.create`` walks every message of the history at each call.
"""

import asyncio
import datetime
import os
import time
from collections.abc import Callable, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
import msgspec
import openai

from marketplace import InvalidArgument, ServiceError, TimedOut, Unavailable
from plugins.openai_chat.chat import Completion, Message
from plugins.openai_chat.events import read_reply
from plugins.openai_chat.failures import SOURCE, Failure, Upstream, meaning
from plugins.openai_chat.models import Model
from plugins.openai_chat.retries import Retries
from plugins.openai_chat.transport import EVENTS, Transport

__all__ = ["ChatCompletions", "to_service_error"]


STALE = 1.0
"""Seconds within which a connection that the upstream had closed meanwhile turns out to be dead."""

_GIVEN_UP = (408, 504, 524)
"""Statuses that a proxy answers with while its upstream may still be at work."""


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    messages: Sequence[Message]
    stream: bool = False


class _ReplyMessage(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _ReplyMessage


class _ChatCompletion(msgspec.Struct):
    choices: list[_Choice]


class _Model(msgspec.Struct):
    id: str
    shutdown_date: Any = None  # what some server puts there instead of a date is no reason to refuse its list


class _Models(msgspec.Struct):
    data: list[_Model]


_encode = msgspec.json.Encoder().encode
_decode_completion = msgspec.json.Decoder(_ChatCompletion).decode
_decode_models = msgspec.json.Decoder(_Models).decode
_JSON = openai.RequestOptions(headers={"Content-Type": "application/json"})
_STREAM = openai.RequestOptions(headers={"Content-Type": "application/json", "Accept": EVENTS})


class ChatCompletions:
    """The upstream, called through the `openai` client."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._retries = Retries()
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

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        deadline: float,
        listen: Callable[[str, int], None] | None = None,
    ) -> Completion:
        """Return the reply to the last of ``messages``; a refusal's text is a reply, too.

        A call that the upstream has not begun to answer is made again, within bounds.

        Raises:
            ServiceError: what the upstream does, mapped by `to_service_error`.
        """

        def tell(part: str) -> None:
            if listen:
                listen(part, len(messages))

        body = _encode(_Request(model, messages, stream=listen is not None))
        self._retries.earn()
        attempts = 0
        while True:
            attempts += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout_at(deadline):
                    reply = await (self._stream(body, tell) if listen else self._ask(body))
                break
            except Exception as error:
                meant = to_service_error(error, self._upstream, model)
                if meant is error:
                    raise
                if not _may_be_repeated(error, meant, time.monotonic() - began):
                    raise meant from error
                meant.__cause__ = error
                await self._retries.pause(meant, attempts, deadline)
        if reply is None:
            raise _malformed("it gives neither content nor a refusal")
        return Completion(reply, used=len(messages))

    async def _ask(self, body: bytes) -> str | None:
        response = await self._client.post(
            "/chat/completions", content=body, cast_to=httpx2.Response, options=_JSON
        )
        return _reply_in(response.content)

    async def _stream(self, body: bytes, listen: Callable[[str], None]) -> str | None:
        response: Any = await self._client.post(
            "/chat/completions",
            content=body,
            cast_to=httpx2.Response,
            options=_STREAM,
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
        try:
            if response.headers.get("content-type", "").startswith(EVENTS):
                return await read_reply(response.aiter_bytes(), listen)
            reply = _reply_in(await response.aread())  # it cannot send it in parts
            if reply:
                listen(reply)
            return reply
        finally:
            await response.aclose()

    async def models(self) -> list[Model]:
        """Return the upstream's models; some servers have no such list, which is an empty one.

        Raises:
            InvalidArgument: if the key is refused.
            ServiceError: what else the upstream does, mapped by `to_service_error`.
        """
        try:
            async with asyncio.timeout(self._upstream.timeout):
                response = await self._client.get("/models", cast_to=httpx2.Response)
            return [
                Model(model.id, _date(model.shutdown_date)) for model in _decode_models(response.content).data
            ]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            text = f"{self._upstream.base_url} refuses this key ({error.status_code})"
            raise InvalidArgument(text, parameter="apiKey") from error
        except (openai.NotFoundError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
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
            return meaning(_failure(error), upstream, model)
        case ServiceError():
            return error
        case TimeoutError() | openai.APITimeoutError():
            return TimedOut("the upstream took too long", source=SOURCE)
        case openai.APIConnectionError() | httpx2.TransportError():
            return _unreachable()
        case openai.OpenAIError():
            return Unavailable("the call to the upstream failed", source=SOURCE)
        case msgspec.MsgspecError() | UnicodeDecodeError() | RecursionError() | IndexError():
            return _malformed("it is no chat completion")
    raise error


def _reply_in(answer: bytes) -> str | None:
    message = _decode_completion(answer).choices[0].message
    reply = message.content or message.refusal or message.content
    return None if reply is None else reply.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL


def _may_be_repeated(error: Exception, meant: ServiceError, seconds: float) -> bool:
    """Return whether a call that took so many ``seconds`` may be made again: it must not be billed twice.

    An upstream that says it is overloaded or broken has not replied. One that a proxy gave up, or whose
    connection ended after a while, may have: only a connection that was dead already ends at once.
    """
    if isinstance(error, openai.APIStatusError):
        return meant.retryable and error.status_code not in _GIVEN_UP
    is_stale = isinstance(error.__cause__, httpx2.ReadError) and seconds < STALE
    return is_stale or isinstance(error.__cause__, httpx2.ConnectError)


def _date(value: Any) -> datetime.date | None:
    try:
        return msgspec.convert(value, datetime.date | None)
    except msgspec.ValidationError:
        return None


def _unreachable() -> Unavailable:
    return Unavailable("the upstream cannot be reached, or cut the connection", source=SOURCE)


def _malformed(text: str) -> Unavailable:
    return Unavailable(f"the upstream's answer cannot be used: {text}", source=SOURCE, reason="malformed")


def _failure(error: openai.APIStatusError) -> Failure:
    said = None
    match error.body:
        case {"message": str(text)} | {"detail": str(text)} | {"error": str(text)}:
            said = text.encode(errors="replace").decode()
    return Failure(
        status=error.status_code,
        said=said or f"the upstream refused the request ({error.status_code})",
        words=(error.code, error.type),
        request_id=error.request_id,
        retry_after=error.response.headers.get("retry-after"),
    )


def _ambient_headers() -> list[str]:
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return [line.partition(":")[0].strip() for line in lines if ":" in line]
