"""Starting services: strangers' plugins that misbehave harm nobody but themselves."""

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import pytest
from litestar import Response, Router, get, post

from marketplace import Host, Service, hookimpl
from marketplace.installs import Install
from marketplace.manifest import Manifest, Product
from service import services
from service.document import document
from service.services import start_service

pytestmark = pytest.mark.anyio


class Nothing(msgspec.Struct):
    """No configuration items."""


class Notes(Service[Nothing]):
    """A service that works; those that do not derive from it."""

    name = "Notes"
    Configuration = Nothing
    closed = 0

    @classmethod
    async def check(cls, configuration: Nothing) -> None: ...

    async def close(self) -> None:
        type(self).closed += 1

    def router(self) -> Router:
        @get("/all")
        async def all_notes() -> list[str]:
            return []

        return Router("/", route_handlers=[all_notes])


Offer = Callable[[type[Service[Any]]], Manifest]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Offer a service class as a product of a plugin of its own."""

    def offer(kind: type[Service[Any]]) -> Manifest:
        module = ModuleType("notes_plugin")

        @hookimpl
        def register_services() -> list[type[Service[Any]]]:
            return [kind]

        module.register_services = register_services  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "notes_plugin", module)
        product = Product(
            name="Notes", version="1", section="Own", summary="Notes", plugin="notes_plugin", configuration=[]
        )
        return Manifest(products=[product])

    return offer


async def start(manifest: Manifest) -> services.RunningService:
    install = Install(product="Notes", version="1", answers={})
    return await start_service(install, manifest, Host(cache=None, database=None))  # type: ignore[arg-type]


async def test_a_good_one_starts_and_closes(offer: Offer) -> None:
    """Its methods are told by name, verb and route."""
    running = await start(offer(Notes))
    assert running.info.state == "ok"
    (method,) = running.info.methods
    assert (method.name, method.verb, method.route) == ("allNotes", "GET", "/api/services/Notes/all")
    await running.close()
    assert Notes.closed == 1


class Raises(Notes):
    """Its start fails with something that quotes a secret."""

    async def start(self) -> None:
        raise OSError("sk-secret")


class Exits(Notes):
    """Its start wants to end the process."""

    async def start(self) -> None:
        sys.exit(3)


class Hangs(Notes):
    """Neither its start nor its close comes to an end."""

    async def start(self) -> None:
        await asyncio.sleep(60)

    async def close(self) -> None:
        await asyncio.sleep(60)


class BadConstructor(Notes):
    """It cannot even be made."""

    def __init__(self, *arguments: Any) -> None:
        raise KeyError("x")


class BadRouter(Notes):
    """Its handler says nothing of its answer, which Litestar does not take."""

    def router(self) -> Router:
        @get("/all")
        async def all_notes():  # type: ignore[no-untyped-def]  # noqa: ANN202
            return []

        return Router("/", route_handlers=[all_notes])


class Indescribable(Notes):
    """Its answer is nothing that JSON knows."""

    def router(self) -> Router:
        @get("/all")
        async def all_notes() -> Response[bytes]:
            return Response(b"")

        return Router("/", route_handlers=[all_notes])


async def test_an_answer_that_json_does_not_know_is_documented_as_anything(offer: Offer) -> None:
    """A handler may return a ready response."""
    running = await start(offer(Indescribable))
    told = document("Notes", running.operations)
    answer = told["paths"]["/api/services/Notes/all"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {}
    await running.close()


class Clashes(Notes):
    """Two of its methods have one name."""

    def router(self) -> Router:
        @get("/a")
        async def note() -> str:
            return ""

        first = note

        @post("/b")  # type: ignore[no-redef]
        async def note() -> str:
            return ""

        return Router("/", route_handlers=[first, note])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Raises, "It failed to start with OSError; the host's log tells more."),
        (Exits, "It failed to start with SystemExit; the host's log tells more."),
        (Hangs, "It did not start within 0.1 seconds."),
        (BadConstructor, "It failed to start with KeyError; the host's log tells more."),
        (BadRouter, "It failed to start with ImproperlyConfiguredException; the host's log tells more."),
        (Clashes, "Two of its methods are note."),
    ],
)
async def test_a_bad_one_is_failed_with_its_reason(
    offer: Offer, kind: type[Notes], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does; its reason quotes nothing of what it raised."""
    monkeypatch.setattr(services, "START_TIMEOUT", 0.1)
    monkeypatch.setattr(services, "CLOSE_TIMEOUT", 0.1)
    kind.closed = 0
    running = await asyncio.wait_for(start(offer(kind)), 5)
    assert running.info.state == "failed"
    assert running.info.reason == told
    assert running.router is None
    assert kind.closed == (0 if kind in (BadConstructor, Hangs) else 1)
    await running.close()


async def test_a_plugin_that_offers_rubbish_is_told(offer: Offer) -> None:
    """What it registers has to be services."""
    running = await start(offer(42))  # type: ignore[arg-type]
    assert str(running.info.reason).startswith("The plugin notes_plugin cannot be loaded: AttributeError")
