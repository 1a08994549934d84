"""The call to the upstream: what it sends, and a map of its errors that is complete."""

import asyncio
import inspect
from collections.abc import AsyncIterator

import httpx2
import msgspec
import openai
import pytest

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
from plugins.openai_chat.completions import ChatCompletions, Upstream, to_service_error
from tests.upstream import KEY, FakeUpstream, answering, garbled, refusing, slow

pytestmark = pytest.mark.anyio

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
UPSTREAM = Upstream(base_url="http://127.0.0.1/v1", api_key=KEY, model="m", timeout=1)

# What each exception of the installed package means to a caller. One that a new version adds is missing
# here, and so fails the test until somebody has thought about it.
MEANING: dict[str, type[ServiceError] | None] = {
    "APIConnectionError": Unavailable,
    "APIError": Unavailable,
    "APIResponseValidationError": Unavailable,
    "APIStatusError": Unavailable,
    "APITimeoutError": TimedOut,
    "AuthenticationError": Unavailable,
    "BadRequestError": Refused,
    "ConflictError": Unavailable,
    "ContentFilterFinishReasonError": Unavailable,
    "InternalServerError": Unavailable,
    "LengthFinishReasonError": Unavailable,
    "NotFoundError": Unavailable,
    "OAuthError": Unavailable,
    "OpenAIError": Unavailable,
    "PermissionDeniedError": Unavailable,
    "RateLimitError": RateLimited,
    "UnprocessableEntityError": Refused,
    "WebSocketConnectionClosedError": Unavailable,
    "WebSocketQueueFullError": Unavailable,
    # A ValueError of web hooks, which we do not receive: it would be a mistake of ours.
    "InvalidWebhookSignatureError": None,
}


def exported() -> dict[str, type[Exception]]:
    """Return the exceptions that the installed package offers."""
    offered = [value for value in list(vars(openai).values()) if inspect.isclass(value)]
    return {
        kind.__name__: kind
        for kind in offered
        if issubclass(kind, Exception) and not kind.__name__.startswith("_")
    }


def derived(kind: type[Exception]) -> set[type[Exception]]:
    """Return all loaded exceptions that derive from ``kind``."""
    return {kind}.union(*(derived(child) for child in kind.__subclasses__()))


def an_instance(kind: type[Exception]) -> Exception:
    """Return an instance of ``kind`` such as the package would raise, whatever its constructor takes."""
    error = kind.__new__(kind)
    Exception.__init__(error, "a message")
    if isinstance(error, openai.APIError):
        error.body = error.code = error.type = None
    if isinstance(error, openai.APIStatusError):
        error.status_code = getattr(kind, "status_code", 500)
        error.response = httpx2.Response(error.status_code, request=REQUEST)
        error.request_id = None
    return error


class TestMap:
    def test_it_knows_every_exception_of_the_package(self) -> None:
        """A version that adds one makes this fail, not a caller's request."""
        assert exported().keys() == MEANING.keys()

    @pytest.mark.parametrize("name", sorted(name for name, meaning in MEANING.items() if meaning))
    def test_every_exception_has_a_meaning(self, name: str) -> None:
        """It names the upstream as the source and says nothing of the exception's own text."""
        mapped = to_service_error(an_instance(exported()[name]), UPSTREAM, "m")
        assert type(mapped) is MEANING[name]
        assert mapped.source == "openai"
        assert "a message" not in str(mapped)

    def test_those_it_keeps_to_itself_have_one_too(self) -> None:
        """Whatever the package derives from its own errors is an error of the upstream."""
        for kind in derived(openai.OpenAIError):
            mapped = to_service_error(an_instance(kind), UPSTREAM, "m")
            assert mapped.source == "openai"

    @pytest.mark.parametrize(
        "error",
        [
            msgspec.ValidationError("x"),
            msgspec.DecodeError("x"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
            RecursionError(),
            IndexError(),
        ],
    )
    def test_an_unreadable_answer_is_an_outage(self, error: Exception) -> None:
        """Whatever it is that cannot be read."""
        mapped = to_service_error(error, UPSTREAM, "m")
        assert isinstance(mapped, Unavailable)
        assert mapped.reason == "malformed"

    def test_our_own_mistakes_are_not_the_upstreams(self) -> None:
        """A bug stays one: it is logged and answered as an internal error."""
        with pytest.raises(KeyError):
            to_service_error(KeyError("ours"), UPSTREAM, "m")


@pytest.fixture
async def completions(upstream: FakeUpstream) -> AsyncIterator[ChatCompletions]:
    opened = ChatCompletions(Upstream(base_url=upstream.url, api_key=KEY, model="m", timeout=0.5))
    yield opened
    await opened.close()


class TestCalls:
    async def complete(self, completions: ChatCompletions, prompt: str, model: str = "m") -> str:
        return await completions.complete(model, [Message("user", prompt)])

    async def test_the_environment_adds_nothing(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Key, address and whom to bill are those installed, whatever variables of the package are set."""
        for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, "ambient")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer ambient")
        completions = ChatCompletions(Upstream(base_url=upstream.url, api_key=KEY, model="m", timeout=5))
        await self.complete(completions, "Hi")
        assert upstream.headers[-1]["Authorization"] == f"Bearer {KEY}"
        assert not upstream.headers[-1].keys() & {"OpenAI-Organization", "OpenAI-Project"}
        await completions.close()

    async def test_organization_and_project_are_sent_when_installed(self, upstream: FakeUpstream) -> None:
        """They tell OpenAI whom to bill."""
        completions = ChatCompletions(
            Upstream(
                base_url=upstream.url,
                api_key=KEY,
                model="m",
                timeout=5,
                organization="org-1",
                project="proj-1",
            )
        )
        await self.complete(completions, "Hi")
        assert upstream.headers[-1]["OpenAI-Organization"] == "org-1"
        assert upstream.headers[-1]["OpenAI-Project"] == "proj-1"
        await completions.close()

    async def test_a_slow_upstream_times_out(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """The whole call is bounded, not each of its steps."""
        upstream.behaviours["slow"] = slow(5)
        with pytest.raises(TimedOut):
            await asyncio.wait_for(self.complete(completions, "slow"), 3)

    async def test_an_unreachable_upstream_is_an_outage(self) -> None:
        """Nobody listens there."""
        nowhere = ChatCompletions(
            Upstream(base_url="http://127.0.0.1:9/v1", api_key=KEY, model="m", timeout=5)
        )
        with pytest.raises(Unavailable) as failed:
            await self.complete(nowhere, "Hi")
        assert failed.value.retryable
        await nowhere.close()

    async def test_a_failed_call_is_not_repeated(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """The upstream is asked once."""
        upstream.behaviours["fail"] = refusing(500)
        with pytest.raises(Unavailable):
            await self.complete(completions, "fail")
        assert upstream.prompts() == ["fail"]

    async def test_other_servers_shapes_are_understood(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Some say `detail`, and some say nothing."""

        async def detail(request: object) -> object:
            from aiohttp import web

            return web.json_response({"detail": "no such field"}, status=422)

        upstream.behaviours["detail"] = detail  # type: ignore[assignment]
        with pytest.raises(Refused, match="no such field"):
            await self.complete(completions, "detail")

    async def test_a_context_that_is_exceeded_is_told_apart(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """It is about the size of the message."""
        upstream.behaviours["long"] = refusing(400, "Too long", "context_length_exceeded")
        with pytest.raises(OversizedArgument):
            await self.complete(completions, "long")

    @pytest.mark.parametrize(
        "body", [b"", b"\xff", b"[" * 100_000, b'{"choices": [{"message": {"content": 1}}]}']
    )
    async def test_garbage_is_an_outage(
        self, upstream: FakeUpstream, completions: ChatCompletions, body: bytes
    ) -> None:
        """However it is broken."""
        upstream.behaviours["garbage"] = garbled(body)
        with pytest.raises(Unavailable):
            await self.complete(completions, "garbage")

    async def test_a_refused_key_is_the_keys_fault_when_it_is_tried(self, upstream: FakeUpstream) -> None:
        """So the wizard asks for it again."""
        completions = ChatCompletions(
            Upstream(base_url=upstream.url, api_key="sk-wrong", model="m", timeout=5)
        )
        with pytest.raises(InvalidArgument) as refused:
            await completions.models()
        assert refused.value.parameter == "apiKey"
        await completions.close()

    async def test_an_empty_reply_is_a_reply(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """It is not taken for none."""
        upstream.behaviours["nothing"] = answering({"content": "", "refusal": None})
        assert await self.complete(completions, "nothing") == ""
