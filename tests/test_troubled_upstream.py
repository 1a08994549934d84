"""Upstreams in trouble, and conversations longer than their context: what they are asked, and how often."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from marketplace import OversizedArgument, RateLimited, ServiceError, TimedOut, Unavailable
from plugins.openai_chat.chat import Completion, Message
from plugins.openai_chat.completions import ChatCompletions
from plugins.openai_chat.context import FittingCompletions
from plugins.openai_chat.events import read_reply
from plugins.openai_chat.failures import Upstream
from tests.upstream import (
    KEY,
    Behaviour,
    FakeUpstream,
    bounded,
    cut_off,
    failing_first,
    garbled,
    raw_upstream,
    refusing,
    slow,
)

pytestmark = pytest.mark.anyio

SAYINGS = {
    "openai": (
        (
            "This model's maximum context length is {limit} tokens."
            " However, your messages resulted in {tokens} tokens."
        ),
        "context_length_exceeded",
    ),
    "vllm": (
        (
            "This model's maximum context length is {limit} tokens. However, you requested {tokens} tokens"
            " ({tokens} in the messages, 0 in the completion)."
        ),
        None,
    ),
    "llama.cpp": ("request ({tokens} tokens) exceeds the available context size ({limit} tokens)", None),
    "anthropic": ("prompt is too long: {tokens} tokens > {limit} maximum", None),
    "terse": ("Too much.", "context_length_exceeded"),
}
"""What servers say of a conversation that is too long, and the code that they give."""


@pytest.fixture
async def completions(upstream: FakeUpstream) -> AsyncIterator[ChatCompletions]:
    opened = ChatCompletions(Upstream(base_url=upstream.url, api_key=KEY, model="m", timeout=10))
    yield opened
    await opened.close()


async def complete(completions: ChatCompletions, prompt: str, seconds: float = 10) -> str:
    deadline = asyncio.get_running_loop().time() + seconds
    return (await completions.complete("m", [Message("user", prompt)], deadline=deadline)).text


class TestRetries:
    @pytest.mark.parametrize("status", [429, 500, 503, 529])
    async def test_a_call_that_failed_is_made_again(
        self, upstream: FakeUpstream, completions: ChatCompletions, status: int
    ) -> None:
        """The caller does not notice."""
        upstream.behaviours["Hi"] = failing_first(1, refusing(status))
        assert await complete(completions, "Hi") == "At last."
        assert upstream.prompts() == ["Hi", "Hi"]

    async def test_a_connection_that_ended_is_made_again(self) -> None:
        """Nobody has begun to answer, so nothing is billed."""
        with raw_upstream(b"") as url:
            completions = ChatCompletions(Upstream(base_url=url, api_key=KEY, model="m", timeout=5))
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await complete(completions, "Hi")
            assert time.monotonic() - began > 0.2
            await completions.close()

    @pytest.mark.parametrize(
        "failure",
        [
            cut_off,
            garbled(b'{"choices": []}'),
            refusing(400),
            refusing(401),
            refusing(404),
            refusing(429, code="insufficient_quota"),
            refusing(504),
        ],
        ids=["cut off", "malformed", "400", "401", "404", "quota", "504"],
    )
    async def test_what_may_be_billed_or_will_fail_again_is_not(
        self, upstream: FakeUpstream, completions: ChatCompletions, failure: Behaviour
    ) -> None:
        """An answer that had begun, a refusal, a spent quota."""
        upstream.behaviours["Hi"] = failing_first(1, failure)
        with pytest.raises(ServiceError):
            await complete(completions, "Hi")
        assert upstream.prompts() == ["Hi"]

    @pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
    async def test_a_retry_after_is_honoured(
        self, upstream: FakeUpstream, completions: ChatCompletions, is_date: bool
    ) -> None:
        """As seconds or as a date: not earlier, and not much later."""
        at = datetime.now(UTC) + timedelta(seconds=3)
        given = format_datetime(at, usegmt=True) if is_date else "2"
        upstream.behaviours["Hi"] = failing_first(1, refusing(429, Retry_After=given))
        began = time.monotonic()
        assert await complete(completions, "Hi") == "At last."
        assert 1.5 < time.monotonic() - began < 5

    async def test_one_that_is_too_long_is_passed_on(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """At once, exactly as it was given."""
        upstream.behaviours["Hi"] = refusing(429, Retry_After="3600")
        async with asyncio.timeout(2):
            with pytest.raises(RateLimited) as limited:
                await complete(completions, "Hi")
        assert limited.value.retry_after == "3600"
        assert upstream.prompts() == ["Hi"]

    async def test_the_deadline_is_for_all_attempts(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """A retry does not begin anew."""
        first = iter([refusing(500)])

        async def fail_then_hang(request: object) -> object:
            return await next(first, slow(60))(request)  # type: ignore[arg-type]

        upstream.behaviours["Hi"] = fail_then_hang  # type: ignore[assignment]
        began = time.monotonic()
        with pytest.raises(TimedOut):
            await complete(completions, "Hi", seconds=2)
        assert time.monotonic() - began < 3

    async def test_all_callers_together_ask_at_most_a_fifth_more(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """An upstream in trouble is not given more of it."""
        upstream.behaviours["Hi"] = refusing(500)
        calls = (complete(completions, "Hi") for _ in range(100))
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in failed)
        assert 100 < len(upstream.requests) <= 121


class TestContext:
    @pytest.fixture
    def fitting(self, completions: ChatCompletions) -> FittingCompletions:
        return FittingCompletions(completions)

    async def ask(self, fitting: FittingCompletions, history: Sequence[Message]) -> Completion:
        deadline = asyncio.get_running_loop().time() + 10
        return await fitting.complete("m", history, deadline=deadline)

    @pytest.mark.parametrize("server", SAYINGS)
    async def test_the_oldest_turns_are_left_out(
        self, upstream: FakeUpstream, fitting: FittingCompletions, server: str
    ) -> None:
        """Whole turns, until it fits; and the next call fits at once."""
        history = conversation(turns=100, words=10)
        says, code = SAYINGS[server]
        upstream.behaviours["end"] = bounded(1000, says=says, code=code)
        first = await self.ask(fitting, history)
        asked = len(upstream.requests)
        assert 2 <= asked <= 3
        assert first.text == f"{first.used} messages"
        assert 20 < first.used < len(history)
        sent = upstream.requests[-1]["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant"] * (len(sent) // 2) + ["user"]
        assert sent[-1]["content"] == "end"
        second = await self.ask(fitting, [*history[:-1], *history[:2], history[-1]])
        assert len(upstream.requests) == asked + 1
        assert second.used >= 20

    async def test_three_calls_are_the_most(
        self, upstream: FakeUpstream, fitting: FittingCompletions
    ) -> None:
        """The last of them has the message alone."""
        upstream.behaviours["end"] = bounded(1)
        answer = await self.ask(fitting, conversation(turns=100, words=10))
        assert (answer.used, len(upstream.requests)) == (1, 3)

    async def test_one_message_alone_that_is_too_long_is_refused(
        self, upstream: FakeUpstream, fitting: FittingCompletions
    ) -> None:
        """With whatever it is sent."""
        upstream.behaviours["end"] = bounded(0)
        for history, calls in ((conversation(turns=0, words=1), 1), (conversation(turns=9, words=9), 3)):
            upstream.requests.clear()
            with pytest.raises(OversizedArgument) as refused:
                await self.ask(fitting, history)
            assert refused.value.reason == "context_length_exceeded"
            assert len(upstream.requests) == calls

    async def test_what_was_learnt_is_of_the_model(
        self, upstream: FakeUpstream, fitting: FittingCompletions
    ) -> None:
        """Another one is asked with everything."""
        upstream.behaviours["end"] = bounded(100)
        history = conversation(turns=50, words=10)
        await self.ask(fitting, history)
        upstream.behaviours.clear()
        deadline = asyncio.get_running_loop().time() + 10
        other = await fitting.complete("other", history, deadline=deadline)
        assert other.used == len(history)

    async def test_a_limit_can_be_set_by_hand(
        self, upstream: FakeUpstream, completions: ChatCompletions
    ) -> None:
        """Then the upstream is never asked with more."""
        fitting = FittingCompletions(completions, max_tokens=500)
        answer = await self.ask(fitting, conversation(turns=100, words=10))
        assert len(upstream.requests) == 1
        assert 10 < answer.used < 60
        assert sum(len(message["content"]) for message in upstream.requests[0]["messages"]) < 500 * 4


def conversation(*, turns: int, words: int) -> list[Message]:
    """Return a history of so many turns, of messages of so many words, and one more message, ``end``."""
    text = " ".join(["word"] * words)
    messages = [Message("user", text), Message("assistant", text)] * turns
    return [*messages, Message("user", "end")]


SHAPES: dict[str, tuple[list[str], str | None]] = {
    "no last word": (['data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}'], "a"),
    "a refusal": (['data:{"choices":[{"delta":{"refusal":"No."},"finish_reason":"stop"}]}', ""], "No."),
    "line breaks": (
        ['data: {"choices": [{"delta": {"content": "a\u2028b\x85c"}, "finish_reason": "stop"}]}', ""],
        "a\u2028b\x85c",
    ),
    "nothing said": (['data: {"choices": [{"delta": {"content": ""}, "finish_reason": "length"}]}', ""], ""),
    "nothing": (['data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}', "", "data: [DONE]"], None),
    "other lines": (
        [
            ": comment",
            "event: x",
            'data: {"choices": [{"delta": {"content": "a\\u0000"},',
            'data: "finish_reason": "stop"}]}',
            "",
            'data: {"choices": []}',
            "",
        ],
        "a\ufffd",
    ),
}
"""Streams in the shapes in which servers send them, and the reply."""


class TestEvents:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
    async def test_the_usual_shapes_are_read(self, shape: str, end: str) -> None:
        """With and without a last word, in one line or several, with comments between."""
        lines, reply = SHAPES[shape]
        heard: list[str] = []
        assert await read_reply(each(lines, end), heard.append) == reply
        assert "".join(heard) == (reply or "")

    @pytest.mark.parametrize("is_reset", [False, True], ids=["hangs", "is reset"])
    async def test_a_whole_reply_is_one_whatever_follows(self, is_reset: bool) -> None:
        """The last word may be missing, and the connection may end in any way."""

        async def content() -> AsyncIterator[bytes]:
            yield b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
            if is_reset:
                raise httpx2.RemoteProtocolError("reset")
            await asyncio.sleep(60)

        async with asyncio.timeout(3):
            assert await read_reply(content(), lambda part: None) == "a"

    @pytest.mark.parametrize(
        "lines",
        [
            [],
            ["data: [DONE]"],
            ['data: {"choices": [{"delta": {"content": "half"}}]}', ""],
            ['data: {"error": {"message": "overloaded"}}', ""],
        ],
        ids=["nothing", "only the last word", "half", "an error"],
    )
    async def test_what_does_not_end_is_no_reply(self, lines: list[str]) -> None:
        """Only the reason why it has ended tells that it has."""
        with pytest.raises(Unavailable):
            await read_reply(each(lines), lambda part: None)


async def each(lines: list[str], end: str = "\n") -> AsyncIterator[bytes]:
    """Yield the lines a few bytes at a time."""
    content = end.join([*lines, ""]).encode()
    for start in range(0, len(content), 7):
        yield content[start : start + 7]
