"""What a swap leaves behind: nothing. The process, looked at from inside."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar, Router, get, post
from litestar.di import NamedDependency

from marketplace import Service, Unavailable, hookimpl
from marketplace.installs import Install
from marketplace.manifest import Manifest, Product
from service import places, reload
from service.app import Application
from service.settings import read_settings

pytestmark = pytest.mark.anyio


class Remembered:
    """Installs that are remembered by this process only."""

    def __init__(self) -> None:
        self._installs: dict[str, Install] = {}
        self._changes = 0

    def load(self) -> dict[str, Install]:
        return dict(self._installs)

    def save(self, install: Install) -> None:
        self._installs[install.product] = install
        self._changes += 1

    def remove(self, product: str) -> None:
        del self._installs[product]
        self._changes += 1

    def revision(self) -> str:
        return str(self._changes)


class Package(msgspec.Struct):
    """A pip package, as a catalogue knows it."""

    name: str
    version: str


class Packaged(Manifest, frozen=True, kw_only=True):
    """Products that come from packages."""

    packages: Mapping[str, Package]


class Nothing(msgspec.Struct):
    """No configuration items."""

    word: str = ""


class Notes(Service[Nothing]):
    """A service that works; what is special derives from it."""

    name = "Notes"
    Configuration = Nothing

    @classmethod
    async def check(cls, configuration: Nothing) -> None: ...

    def router(self) -> Router:
        return Router("/", route_handlers=[get("/word")(self.word)])

    async def word(self) -> str:
        return self.configuration.word


class Live:
    """A host in this process, whose plugins are classes of the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.installs = Remembered()
        self.manifest = Manifest(products=[])
        self.host = Application(
            read_settings({"MARKETPLACE_HOME": str(folder)}), self.installs, lambda: self.manifest
        )
        transport = httpx2.ASGITransport(self.host)  # type: ignore[arg-type]
        self.http = httpx2.AsyncClient(base_url="http://host", transport=transport)

    def install(self, kind: type[Service[Any]], **answers: Any) -> None:
        """Offer a service class, and install it."""
        module = ModuleType(f"live_{kind.name.lower()}")

        @hookimpl
        def register_services() -> list[type[Service[Any]]]:
            return [kind]

        module.register_services = register_services  # type: ignore[attr-defined]
        self._patch.setitem(sys.modules, module.__name__, module)
        told = {
            "name": kind.name,
            "version": "1",
            "section": "Own",
            "summary": "A service",
            "configuration": [],
        }
        product = msgspec.convert({**told, "plugin": module.__name__}, Product)
        others = [other for other in self.manifest.products if other.name != kind.name]
        self.manifest = Manifest(products=[*others, product])
        self.installs.save(Install(product=kind.name, version="1", answers=answers))

    async def state(self, name: str = "Notes") -> dict[str, Any]:
        """Return what is told of a service; nothing of one that there is not."""
        listed = (await self.http.get("/api/services")).json()
        return next((info for info in listed if info["name"] == name), {})

    async def until(self, name: str = "Notes", **expected: Any) -> dict[str, Any]:
        """Wait until what is told of a service is as expected."""
        async with asyncio.timeout(5):
            while True:
                told = await self.state(name)
                if {key: told.get(key) for key in expected} == expected:
                    return told
                await asyncio.sleep(0.01)

    async def until_word(self, expected: str) -> None:
        """Wait until calls are answered by the service with that configuration."""
        async with asyncio.timeout(5):
            while await self.word() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def word(self) -> str:
        """Call the service."""
        return (await self.http.get("/api/services/Notes/word")).text


@pytest.fixture
async def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """A host that looks often."""
    monkeypatch.setattr(reload, "POLL", 0.02)
    monkeypatch.setattr(reload, "PATIENCE", 0.05)
    monkeypatch.setattr(reload, "FIRST_PATIENCE", 0.1)
    made = Live(tmp_path, monkeypatch)
    await made.host.open()
    yield made
    await made.http.aclose()
    await made.host.close()


async def test_nothing_of_what_was_replaced_is_left(live: Live) -> None:
    """Neither the service nor the application that knew it: no cycle, log or task leads to them."""
    gone: list[weakref.ref[Any]] = []

    class Noted(Notes):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            gone.append(weakref.ref(self))

    before = applications()
    live.install(Noted, word="first")
    await live.until(state="ok")
    tasks = len(asyncio.all_tasks())
    for word in ("second", "third"):
        live.install(Noted, word=word)
        await live.until_word(word)
    live.installs.remove("Notes")
    await live.until(state=None)
    async with asyncio.timeout(5):
        while any(reference() for reference in gone) or applications() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - a look at the installs is a task for a moment
            await asyncio.sleep(0.005)
    assert len(gone) == 3


def applications() -> int:
    """Return how many applications there are in this process, reachable or not."""
    return sum(isinstance(found, Litestar) for found in gc.get_objects())


async def test_it_closes_when_its_last_call_is_done_and_not_before(live: Live) -> None:
    """And once, however many applications it was a part of meanwhile."""
    events: list[str] = []

    class Slow(Notes):
        async def word(self) -> str:
            await asyncio.sleep(0.5)
            events.append("answered")
            return self.configuration.word

        async def close(self) -> None:
            events.append("closed")

    live.install(Slow, word="first")
    await live.until(state="ok")
    call = asyncio.create_task(live.word())
    await asyncio.sleep(0.05)
    live.install(type("Others", (Notes,), {"name": "Others"}))
    await live.until("Others", state="ok")
    live.installs.remove("Notes")
    await live.until(state=None)
    assert not events
    assert await call == "first"
    await asyncio.sleep(0.2)
    assert events == ["answered", "closed"]


async def test_a_call_of_a_starting_service_waits_for_it(live: Live) -> None:
    """Nobody is told to come back who would be answered in a moment."""

    class Late(Notes):
        async def start(self) -> None:
            await asyncio.sleep(0.5)

    live.install(Late, word="late")
    await live.until(state="starting")
    assert await live.word() == "late"


async def test_one_that_starts_for_too_long_is_told(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for it, but not for ever."""
    monkeypatch.setattr(reload, "HOLD", 0.1)

    class Late(Notes):
        async def start(self) -> None:
            await asyncio.sleep(60)

    live.install(Late)
    await live.until(state="starting")
    answer = await live.http.get("/api/services/Notes/word")
    assert answer.status_code == 503
    assert answer.json()["errorData"]["reason"] == "starting"
    assert answer.headers["retry-after"]


async def test_the_old_one_answers_until_the_new_one_has_started(live: Live) -> None:
    """Nobody waits for a service that is only configured anew."""

    class Late(Notes):
        async def start(self) -> None:
            if self.configuration.word == "late":
                await asyncio.sleep(0.5)

    live.install(Late, word="early")
    await live.until(state="ok")
    live.install(Late, word="late")
    words: list[str] = []
    while not words or words[-1] == "early":
        words.append(await live.word())
        await asyncio.sleep(0.02)
    assert words[-1] == "late"
    assert len(words) > 10


async def test_one_that_does_not_start_any_more_is_told(live: Live) -> None:
    """What was replaced does not go on in secret."""

    class Picky(Notes):
        async def start(self) -> None:
            if self.configuration.word == "bad":
                raise Unavailable("the upstream is away")

    live.install(Picky, word="good")
    await live.until(state="ok")
    live.install(Picky, word="bad")
    told = await live.until(state="failed")
    assert told["reason"] == "the upstream is away"
    assert (await live.http.get("/api/services/Notes/word")).status_code == 503


async def test_what_failed_for_a_passing_reason_is_tried_again(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anybody's doing."""
    monkeypatch.setattr(places, "FIRST_RETRY", 0.2)
    tries: list[int] = []

    class Healing(Notes):
        async def start(self) -> None:
            tries.append(1)
            if len(tries) < 3:
                raise Unavailable("the upstream is away")

    live.install(Healing)
    await live.until(state="failed")
    await live.until(state="ok")
    assert len(tries) == 3


async def test_what_failed_for_good_is_not(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again when something is installed, as that may have mended it."""
    monkeypatch.setattr(places, "FIRST_RETRY", 0.05)
    tries: list[int] = []

    class Bad(Notes):
        async def start(self) -> None:
            tries.append(1)
            raise ValueError

    live.install(Bad)
    await live.until(state="failed")
    await asyncio.sleep(0.3)
    assert len(tries) == 1
    live.install(Bad)
    await asyncio.sleep(0.3)
    assert len(tries) == 2


async def test_a_start_that_was_overtaken_is_ended(live: Live) -> None:
    """What it opened is closed."""
    closed: list[str] = []

    class Late(Notes):
        async def start(self) -> None:
            await asyncio.sleep(60)

        async def close(self) -> None:
            closed.append(self.configuration.word)

    live.install(Late, word="first")
    await live.until(state="starting")
    live.install(Late, word="second")
    await asyncio.sleep(0.3)
    live.installs.remove("Notes")
    await live.until(state=None)
    await asyncio.sleep(0.1)
    assert closed == ["first", "second"]


def service_of(module: str, name: str) -> type[Notes]:
    """Make a service whose argument is a struct named as that of another service."""
    arguments = msgspec.defstruct("Arguments", [(name.lower(), str)], module=module)

    async def word(arguments: Any) -> str:
        return str(getattr(arguments, name.lower()))

    word.__annotations__ = {"arguments": NamedDependency[arguments], "return": str}  # type: ignore[valid-type, misc]

    def router(self: Notes) -> Router:
        return Router("/", route_handlers=[post("/word", status_code=200)(word)])

    return type(name, (Notes,), {"name": name, "router": router})


async def test_services_may_name_their_structs_alike(live: Live) -> None:
    """Each has its own in the document."""
    live.install(service_of("one", "One"))
    live.install(service_of("two", "Two"))
    await live.until("Two", state="ok")
    for name in ("One", "Two"):
        answer = await live.http.post(f"/api/services/{name}/word", json={name.lower(): "Hi"})
        assert answer.text == "Hi", answer.text
    document = (await live.http.get("/schema/openapi.json")).json()
    for name in ("One", "Two"):
        body = document["paths"][f"/api/services/{name}/word"]["post"]["requestBody"]
        reference = body["content"]["application/json"]["schema"]["$ref"]
        told = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert list(told["properties"]) == [name.lower()]


async def test_those_that_do_not_go_together_keep_nobody_else_down(live: Live) -> None:
    """The one that came first is served, the other is failed."""
    live.install(service_of("one", "One"))
    live.install(service_of("one", "Two"))
    live.install(Notes, word="fine")
    assert (await live.until("Two", state="failed"))["reason"]
    assert (await live.state("One"))["state"] == "ok"
    assert await live.word() == "fine"


async def test_a_new_version_of_what_runs_takes_a_start_of_the_host(live: Live) -> None:
    """Its listing says so, until the one that runs is installed again."""
    live.install(Notes)
    products = live.manifest.products
    live.manifest = Packaged(products=products, packages={"Notes": Package("notes", "1.0")})
    await live.until(state="ok", notice=None)
    live.manifest = Packaged(products=products, packages={"Notes": Package("notes", "2.0")})
    live.install(type("Others", (Notes,), {"name": "Others"}))
    live.manifest = Packaged(products=live.manifest.products, packages={"Notes": Package("notes", "2.0")})
    await live.until(notice="notes 2.0 is installed, but 1.0 runs: start the host anew.")
    live.manifest = Packaged(products=products, packages={"Notes": Package("notes", "1.0")})
    live.installs.remove("Others")
    await live.until(notice=None)
    assert (await live.state())["state"] == "ok"
