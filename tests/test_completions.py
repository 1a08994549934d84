"""The call to the upstream: what it sends, and a map of its errors that is complete."""

import asyncio
import gzip
import inspect
from collections.abc import AsyncIterator

import httpx2
import msgspec
import openai
import pytest
from aiohttp import web

from marketplace import (
    InvalidArgument,
    OversizedArgument,
    RateLimited,
    Refused,
    ServiceError,
    TimedOut,
    Unavailable,
)
from plugins.openai_chat import transport
from plugins.openai_chat.chat import Message
from plugins.openai_chat.completions import ChatCompletions, to_service_error
from plugins.openai_chat.failures import Upstream
from tests.upstream import (
    KEY,
    FakeUpstream,
    answering,
    compressed,
    dripping,
    garbled,
    raw_upstream,
    refusing,
    slow,
    with_headers,
)

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
    opened = ChatCompletions(Upstream(base_url=upstream.url, api_key=KEY, model="m", timeout=1))
    yield opened
    await opened.close()


class TestCalls:
    async def complete(self, completions: ChatCompletions, prompt: str, seconds: float = 1) -> str:
        deadline = asyncio.get_running_loop().time() + seconds
        completion = await completions.complete("m", [Message("user", prompt)], deadline=deadline)
        return completion.text

    async def test_the_environment_adds_nothing(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Key, address and whom to bill are those installed, whatever variables of the package are set."""
        for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, "ambient")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        ambient = "Authorization: Bearer ambient\nOpenAI-Organization: ambient\nX-Ambient: ambient"
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", ambient)
        completions = ChatCompletions(Upstream(base_url=upstream.url, api_key=KEY, model="m", timeout=5))
        await self.complete(completions, "Hi")
        assert upstream.headers[-1]["Authorization"] == f"Bearer {KEY}"
        assert "ambient" not in str(upstream.headers[-1]).lower()
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
        upstream.behaviours["drip"] = dripping(5)
        for prompt in ("slow", "drip"):
            with pytest.raises(TimedOut):
                await asyncio.wait_for(self.complete(completions, prompt), 3)

    async def test_an_unreachable_upstream_is_an_outage(self) -> None:
        """Nobody listens there."""
        nowhere = ChatCompletions(
            Upstream(base_url="http://127.0.0.1:9/v1", api_key=KEY, model="m", timeout=5)
        )
        with pytest.raises(Unavailable) as failed:
            await self.complete(nowhere, "Hi")
        assert failed.value.retryable
        await nowhere.close()

    async def test_other_servers_shapes_are_understood(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Some say `detail`, and some say nothing."""

        async def detail(request: object) -> object:
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

    async def test_an_answer_may_be_compressed(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """It is unpacked."""
        upstream.behaviours["zip"] = compressed
        assert await self.complete(completions, "zip") == "Unpacked."

    async def test_cookies_are_not_kept(self, upstream: FakeUpstream, completions: ChatCompletions) -> None:
        """Nothing of one session's call goes along with another's, and a broken one breaks nothing."""
        upstream.behaviours["cookie"] = with_headers(Set_Cookie="na\u00efve=1; path=/")
        await self.complete(completions, "cookie")
        await self.complete(completions, "Hi")
        assert "Cookie" not in upstream.headers[-1]

    @pytest.mark.parametrize("given", ["\u2603", "", "a\x01b"])
    async def test_a_retry_after_that_is_none_is_left_out(
        self, upstream: FakeUpstream, completions: ChatCompletions, given: str
    ) -> None:
        """It could not be passed on."""
        upstream.behaviours["limit"] = refusing(429, Retry_After=given)
        with pytest.raises(ServiceError) as limited:
            await self.complete(completions, "limit")
        assert limited.value.retry_after is None

    async def test_quota_is_told_by_type_as_well(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Some servers give no code; and the upstream is not asked again."""
        upstream.behaviours["quota"] = refusing(429, kind="insufficient_quota")
        with pytest.raises(Unavailable) as spent:
            await self.complete(completions, "quota")
        assert spent.value.reason == "quota"
        assert upstream.prompts() == ["quota"]

    async def test_a_message_keeps_nothing_that_cannot_be_passed_on(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Neither half a character nor something that looks like a key."""
        upstream.behaviours["refuse"] = refusing(400, "Bad \ud800 for sk-other-1234567890 too")
        with pytest.raises(Refused, match=r"Bad \? for \.\.\. too"):
            await self.complete(completions, "refuse")

    async def test_a_nul_in_a_reply_is_replaced(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Not every database could keep it."""
        upstream.behaviours["nul"] = answering({"content": "a\0b"})
        assert await self.complete(completions, "nul") == "a\ufffdb"

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-private words\r\n",
            b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}",
            b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            b"",
        ],
        ids=["not http", "no colon", "bad chunk", "long header", "not gzip", "nothing"],
    )
    async def test_what_is_no_http_is_an_outage(self, answer: bytes) -> None:
        """Of the upstream, and not an internal error."""
        with raw_upstream(answer) as url:
            completions = ChatCompletions(Upstream(base_url=url, api_key=KEY, model="m", timeout=5))
            with pytest.raises(Unavailable) as failed:
                await self.complete(completions, "Hi")
            await completions.close()
        assert "private" not in str(failed.value)

    async def test_an_answer_without_end_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does not fill the memory."""
        monkeypatch.setattr(transport, "MAX_ANSWER", 100_000)
        with raw_upstream(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 200_000) as url:
            completions = ChatCompletions(Upstream(base_url=url, api_key=KEY, model="m", timeout=5))
            with pytest.raises(Unavailable):
                await self.complete(completions, "Hi")
            await completions.close()

    async def test_a_proxy_of_the_environment_is_used(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For upstreams elsewhere; this machine is never asked through it."""
        monkeypatch.setenv("http_proxy", upstream.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        far = ChatCompletions(Upstream(base_url="http://far.example/v1", api_key=KEY, model="m", timeout=5))
        assert await self.complete(far, "Hi") == "Hi?"
        assert upstream.headers[-1]["Host"] == "far.example"
        await far.close()
        near = ChatCompletions(Upstream(base_url="http://127.0.0.1:9/v1", api_key=KEY, model="m", timeout=5))
        with pytest.raises(Unavailable):
            await self.complete(near, "Hi")
        await near.close()

    @pytest.mark.parametrize("status", [301, 303, 307, 308])
    async def test_a_redirect_is_not_followed(
        self, upstream: FakeUpstream, completions: ChatCompletions, status: int
    ) -> None:
        """Neither key nor prompt goes where nobody has sent it."""
        upstream.behaviours["moved"] = refusing(status, Location=f"{upstream.url}/models")
        with pytest.raises(Unavailable) as moved:
            await self.complete(completions, "moved")
        assert moved.value.reason == "upstream_moved"
        assert not moved.value.retryable

    async def test_what_unpacks_without_end_is_given_up(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """The limit is for the answer as it is read."""
        packed = gzip.compress(b" " * 200_000_000)

        async def bomb(request: web.Request) -> web.StreamResponse:
            return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

        upstream.behaviours["bomb"] = bomb
        with pytest.raises(Unavailable):
            await self.complete(completions, "bomb", seconds=30)
