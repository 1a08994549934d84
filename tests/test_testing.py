"""The host that plugin authors test with: what their tests see is what callers see."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from litestar import Router, get, post
from litestar.di import NamedDependency
from sqlalchemy import Column, Integer, MetaData, Table, Text

from marketplace import Busy, InvalidArgument, NotFound, Service, Unavailable
from marketplace.fakes import FakeCache, FakeDatabase
from marketplace.testing import CallFailed, host
from plugins.openai_chat.service import OpenAI
from tests.upstream import KEY, FakeUpstream

pytestmark = pytest.mark.anyio


class Answers(msgspec.Struct):
    """The configuration items."""

    title: Annotated[str, msgspec.Meta(max_length=20)]


class Note(msgspec.Struct):
    """The argument of addNote."""

    text: str


class Notes(Service[Answers]):
    """Notes in the cache."""

    name = "Notes"
    Configuration = Answers
    closed = 0

    @classmethod
    async def check(cls, configuration: Answers) -> None: ...

    async def start(self) -> None:
        if self.configuration.title == "broken":
            raise OSError("it broke")

    async def close(self) -> None:
        type(self).closed += 1

    def router(self) -> Router:
        @post("/notes", status_code=200)
        async def add_note(arguments: NamedDependency[Note]) -> dict[str, int]:
            notes = await self.host.cache.read("notes", ttl=60) or []
            await self.host.cache.create("notes", [*notes, arguments.text.encode()], ttl=60)
            return {"count": len(notes) + 1}

        @get("/title")
        async def title() -> str:
            return self.configuration.title

        @get("/missing")
        async def missing() -> None:
            raise NotFound(id="7")

        @get("/bug")
        async def bug() -> None:
            raise KeyError("sk-secret")

        return Router("/", route_handlers=[add_note, title, missing, bug])


MINE = {"title": "Mine"}


class TestCalls:
    async def test_a_method_is_called_by_its_name(self) -> None:
        """With its arguments, or none; the answer is what a caller has decoded."""
        async with host(Notes, MINE) as running:
            assert await running.invoke("addNote", {"text": "one"}) == {"count": 1}
            assert await running.invoke("title") == "Mine"

    @pytest.mark.parametrize(
        ("method", "arguments", "status", "code", "data"),
        [
            ("addNote", {}, 400, 8007, {"parameter": "text"}),
            ("addNote", {"test": "x", "text": "x"}, 400, 8008, {"parameter": "test", "didYouMean": "text"}),
            ("addNote", {"text": 1}, 400, 8008, {"parameter": "text"}),
            ("missing", {}, 404, 1000, {"id": "7", "source": "plugin"}),
            ("nothing", {}, 404, 14002, {"source": "host"}),
            ("bug", {}, 500, 0, {}),
        ],
    )
    async def test_an_error_is_the_one_that_callers_see(
        self, method: str, arguments: dict[str, object], status: int, code: int, data: dict[str, str]
    ) -> None:
        """Its status and its envelope; what nobody foresaw tells nothing."""
        async with host(Notes, MINE) as running:
            with pytest.raises(CallFailed) as failed:
                await running.invoke(method, arguments)
        assert (failed.value.status, failed.value.code) == (status, code)
        assert data.items() <= failed.value.error_data.items()
        assert "sk-secret" not in str(failed.value)
        assert failed.value.message in str(failed.value)

    async def test_a_route_is_called_with_the_client(self) -> None:
        """Its addresses are below the service's own, and answers have the headers of the host."""
        async with host(Notes, MINE) as running:
            answer = await running.http.get("title")
            assert (answer.status_code, answer.text) == (200, "Mine")
            assert answer.headers["X-Request-Id"]
            document = (await running.http.get("api-docs")).json()
            assert "/api/services/Notes/notes" in document["paths"]


class TestLife:
    async def test_it_is_closed_at_the_end(self) -> None:
        """Also if it did not start, whose error is not hidden."""
        Notes.closed = 0
        async with host(Notes, MINE) as running:
            assert running.service.configuration.title == "Mine"
        assert Notes.closed == 1
        with pytest.raises(OSError, match="it broke"):
            async with host(Notes, {"title": "broken"}):
                pass
        assert Notes.closed == 2

    async def test_an_answer_that_does_not_fit_is_refused(self) -> None:
        """As the wizard would refuse it, with the item's name."""
        with pytest.raises(InvalidArgument, match="length <= 20") as refused:
            async with host(Notes, {"title": "x" * 21}):
                pass
        assert refused.value.parameter == "title"

    async def test_a_host_that_starts_anew_finds_what_was_kept(self) -> None:
        """With the same facility; otherwise each has one of its own."""
        cache = FakeCache()
        for count in (1, 2):
            async with host(Notes, MINE, cache=cache) as running:
                assert await running.invoke("addNote", {"text": "one"}) == {"count": count}
        async with host(Notes, MINE) as running:
            assert await running.invoke("addNote", {"text": "one"}) == {"count": 1}

    async def test_a_facility_that_is_down_can_be_played(self) -> None:
        """Whatever keeps the contract can be lent."""

        class Down(FakeCache):
            async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
                raise Unavailable("the cache cannot be used", source="host", retry_after=5)

        async with host(Notes, MINE, cache=Down()) as running:
            answer = await running.http.post("notes", json={"text": "one"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


class TestOurs:
    @pytest.mark.parametrize("is_persisted", [False, True])
    async def test_openai_keeps_sessions_in_the_fake_facilities(
        self, upstream: FakeUpstream, is_persisted: bool
    ) -> None:
        """What our own product needs of a host, they have."""
        async with host(OpenAI, {"apiKey": KEY, "baseUrl": upstream.url}) as running:
            made = await running.invoke("createSession", {"persistInDB": is_persisted})
            await running.invoke("sendMessage", {**made, "message": "Hi"})
            session = await running.invoke("getSessionMessages", made)
        assert [message["role"] for message in session["messages"]] == ["user", "assistant"]
        assert (session["aiModel"], session["persistInDB"]) == ("gpt-3.5-turbo", is_persisted)


class TestManifest:
    MANIFEST = """
products:
  - {name: Notes, version: 1.0.0, section: Own, summary: Notes, plugin: scribbles, configuration: [
      {name: title, label: Title, type: STRING, default: Untitled}]}
"""

    @pytest.fixture
    def packaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Notes]:
        """Return the service as if it came from a package of its own with a manifest inside."""
        (tmp_path / "scribbles").mkdir()
        (tmp_path / "scribbles" / "__init__.py").touch()
        (tmp_path / "scribbles" / "manifest.yaml").write_text(self.MANIFEST)
        monkeypatch.syspath_prepend(str(tmp_path))
        return type("Notes", (Notes,), {"__module__": "scribbles.service"})

    async def test_items_that_are_not_answered_have_their_defaults(self, packaged: type[Notes]) -> None:
        """From the manifest in the service's package, whether it is installed or not."""
        async with host(packaged) as running:
            assert await running.invoke("title") == "Untitled"
        assert "scribbles" not in sys.modules

    async def test_an_answer_to_no_item_is_refused(self, packaged: type[Notes]) -> None:
        """So that a test does not answer what is never asked."""
        with pytest.raises(InvalidArgument, match="Notes has no item 'titel'"):
            async with host(packaged, {"titel": "x"}):
                pass


class TestFakes:
    """What the contract tests of the facilities do not ask of them yet."""

    async def test_a_lease_goes_from_one_to_the_next(self) -> None:
        """In the order in which they came; whoever waits too long is told so."""
        cache, order = FakeCache(), []
        assert await cache.lease("key", "first", ttl=60, wait=0)
        assert not await cache.lease("key", "hasty", ttl=60, wait=0.01)

        async def take(token: str) -> None:
            assert await cache.lease("key", token, ttl=60, wait=5)
            order.append(token)
            await cache.release("key", token)

        waiting = [asyncio.create_task(take(token)) for token in ("second", "third")]
        await asyncio.sleep(0.02)
        assert order == []
        await cache.release("key", "stranger")
        await cache.release("key", "first")
        await asyncio.gather(*waiting)
        assert order == ["second", "third"]

    async def test_a_lease_that_is_not_renewed_runs_out(self) -> None:
        """It is taken again only if nobody else has it by then."""
        cache = FakeCache()
        await cache.lease("key", "first", ttl=0.02, wait=0)
        assert await cache.renew({"key": "first", "other": "first"}, ttl=0.02) == {"key"}
        assert await cache.lease("key", "second", ttl=60, wait=5)
        assert await cache.renew({"key": "first"}, ttl=60) == set()

    async def test_an_append_minds_the_lease_and_knows_its_token_again(self) -> None:
        """One whose answer was lost stores nothing twice."""
        cache = FakeCache()
        await cache.create("key", [b"1"], ttl=60)
        await cache.lease("key", "mine", ttl=60, wait=0)
        assert not await cache.append("key", [b"2"], length=1, ttl=60, token="other")
        for _ in range(2):
            assert await cache.append("key", [b"2"], length=1, ttl=60, token="mine")
        assert await cache.read("key", ttl=60) == [b"1", b"2"]
        await cache.delete("key")
        assert await cache.read("key", ttl=60) is None

    async def test_a_foreign_table_is_reported(self) -> None:
        """As the real database does."""
        database = FakeDatabase()
        await database.create_tables(Table("Note", MetaData(), Column("id", Integer)))
        with pytest.raises(Unavailable, match="another table named Note, without text"):
            await database.create_tables(Table("Note", MetaData(), Column("text", Text)))
        await database.close()


async def test_busy_is_worth_trying_again() -> None:
    """A plugin's error says so to its caller."""

    class Taken(Notes):
        def router(self) -> Router:
            @get("/title")
            async def title() -> None:
                raise Busy("somebody else writes", reason="taken")

            return Router("/", route_handlers=[title])

    async with host(Taken, MINE) as running:
        with pytest.raises(CallFailed, match="409 14004") as failed:
            await running.invoke("title")
    assert failed.value.error_data["retryable"] is True
