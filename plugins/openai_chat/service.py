"""The OpenAI service: its configuration and its wiring."""

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from litestar import Router

from marketplace import Doubt, Host, InvalidArgument, Service, ServiceError, Unavailable
from plugins.openai_chat.chat import Chat
from plugins.openai_chat.completions import ChatCompletions
from plugins.openai_chat.context import FittingCompletions
from plugins.openai_chat.failures import Upstream
from plugins.openai_chat.models import judge
from plugins.openai_chat.practice import PRACTICE, practice_server
from plugins.openai_chat.routes import routes
from plugins.openai_chat.stored import describe_stored, drop_stored
from plugins.openai_chat.stores import CachedSessions, CacheKeys, TableSessions
from plugins.openai_chat.turns import Turns

__all__ = ["OpenAI", "OpenAIConfiguration"]

WORD = r"[\x21-\x7e]+"
Word = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[int, msgspec.Meta(ge=1)]


class OpenAIConfiguration(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answers to the configuration items; times are in seconds."""

    api_key: Word
    model: Word
    base_url: str
    session_ttl: Seconds
    timeout: Seconds
    turn_wait: Seconds
    max_context_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    organization: Word | None = None
    project: Word | None = None

    def __post_init__(self) -> None:
        """Refuse what would only fail later, and misleadingly.

        Raises:
            InvalidArgument: with the item's name as ``parameter``.
        """
        if not re.fullmatch(WORD, self.api_key):
            raise InvalidArgument("a key has no spaces, line breaks or accented letters", parameter="apiKey")
        for name, value in (("organization", self.organization), ("project", self.project)):
            if value is not None and not re.fullmatch(WORD, value):
                raise InvalidArgument("an id has no spaces or accented letters", parameter=name)
        if self.base_url != PRACTICE and not _is_address(self.base_url):
            text = "expected an address such as https://api.openai.com/v1"
            raise InvalidArgument(text, parameter="baseUrl")

    def __repr__(self) -> str:
        return f"OpenAIConfiguration(model={self.model!r}, base_url={self.base_url!r}, api_key=...)"


class OpenAI(Service[OpenAIConfiguration]):
    """ChatGPT conversations behind three REST calls."""

    name = "OpenAI"
    Configuration = OpenAIConfiguration

    def __init__(self, configuration: OpenAIConfiguration, host: Host) -> None:
        super().__init__(configuration, host)
        self._open = AsyncExitStack()

    @classmethod
    async def check(cls, configuration: OpenAIConfiguration) -> Sequence[Doubt]:
        """Try the key and the model by listing the upstream's models; see `Service.check`."""
        async with AsyncExitStack() as stack:
            completions = await _connect(configuration, stack)
            try:
                models = await completions.models()
            except InvalidArgument:
                raise
            except ServiceError as error:
                place = f"{configuration.base_url}: " if configuration.base_url != PRACTICE else ""
                raise Unavailable(f"{place}{error}", source=error.source) from error
        return judge(configuration.model, models, today=datetime.now(UTC).date())

    async def start(self) -> None:
        """Connect to the upstream."""
        configuration = self.configuration
        self._chat = Chat(
            configuration.model,
            cached=CachedSessions(self.host.cache, ttl=configuration.session_ttl, turn=configuration.timeout),
            persisted=TableSessions(self.host.database),
            keys=CacheKeys(self.host.cache),
        )
        self._turns = Turns(
            self._chat,
            FittingCompletions(
                await _connect(configuration, self._open), max_tokens=configuration.max_context_tokens
            ),
            timeout=configuration.timeout,
            wait=configuration.turn_wait,
        )
        self._open.push_async_callback(self._turns.close)

    async def close(self) -> None:
        """Finish the turns that are under way, then close the connections to the upstream."""
        await self._open.aclose()

    async def stored_data(self) -> Sequence[str]:
        """Count what is in the two tables; see `Service.stored_data`."""
        return await describe_stored(self.host.database)

    async def drop_data(self) -> None:
        """Drop the two tables; see `Service.drop_data`."""
        await drop_stored(self.host.database)

    def router(self) -> Router:
        """Return the three routes."""
        return routes(self._chat, self._turns)


async def _connect(configuration: OpenAIConfiguration, stack: AsyncExitStack) -> ChatCompletions:
    base_url = configuration.base_url
    if base_url == PRACTICE:
        base_url = await stack.enter_async_context(practice_server())
    upstream = Upstream(
        base_url=base_url,
        api_key=configuration.api_key,
        organization=configuration.organization,
        project=configuration.project,
        model=configuration.model,
        timeout=configuration.timeout,
    )
    completions = ChatCompletions(upstream)
    stack.push_async_callback(completions.close)
    return completions


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_port = url.port is None or url.port > 0
    except ValueError:
        return False
    return (
        url.scheme in ("http", "https") and bool(url.hostname) and is_port and bool(re.fullmatch(WORD, text))
    )
