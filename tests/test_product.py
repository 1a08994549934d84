"""What OpenAI says of itself in the manifest, held against the loaded plugin and the running service."""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from marketplace.installs import Install, InstallsFile
from marketplace.manifest import SERVICES, read_manifest
from marketplace.plugins import configure, load_service
from plugins.openai_chat.tables import sessions
from service.app import Application
from service.settings import read_settings
from tests.host import Host
from tests.upstream import KEY, FakeUpstream

PRODUCT = read_manifest().product("OpenAI")


def test_its_methods_are_those_of_the_running_service(host: Host) -> None:
    """Names, verbs and routes, in the same order, and no other."""
    (service,) = host.http.get(SERVICES).json()
    told = [(method.name, method.verb, f"{SERVICES}/OpenAI{method.route}") for method in PRODUCT.methods]
    assert [(method["name"], method["verb"], method["route"]) for method in service["methods"]] == told


def test_its_stores_are_the_tables_of_the_plugin(host: Host) -> None:
    """All that it can create, and all that a persisted session did create."""
    told = {table for stored in PRODUCT.stores for table in re.findall(r"table (\w+)", stored.where)}
    assert told == sessions.metadata.tables.keys()
    host.create_session(persistInDB=True)
    with sqlite3.connect(host.log.parent / "marketplace.db") as database:
        created = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    database.close()
    assert {name for (name,) in created} == told


def test_it_talks_to_the_host_of_its_base_url() -> None:
    """By default; or to the one that the item names."""
    (contact,) = PRODUCT.talks_to
    assert contact.item == "baseUrl"
    assert contact.host == urlsplit(str(PRODUCT.defaults()["baseUrl"])).hostname


class Wire:
    """Notes whom this process looks up and connects to, while it is watched."""

    def __init__(self) -> None:
        self.seen: set[tuple[Any, Any]] | None = None
        sys.addaudithook(self._note)

    @contextmanager
    def watched(self) -> Iterator[set[tuple[Any, Any]]]:
        """Yield the hosts and ports that will have been met."""
        self.seen = set()
        yield self.seen
        self.seen = None

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event == "socket.connect":
            self.seen.add(tuple(arguments[1][:2]))
        elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            self.seen.add((arguments[0], arguments[1] if len(arguments) > 1 else None))


@pytest.mark.anyio
async def test_it_talks_to_nobody_else(upstream: FakeUpstream, home: Path) -> None:
    """Tried, started, and through a whole conversation: only to the upstream that was installed."""
    answers = {**PRODUCT.defaults(), "apiKey": KEY, "baseUrl": upstream.url}
    kind = load_service(PRODUCT)
    installs = InstallsFile(home)
    installs.save(Install(product="OpenAI", version=PRODUCT.version, answers=dict(answers)))
    host = Application(read_settings({"MARKETPLACE_HOME": str(home)}), installs, read_manifest)
    with Wire().watched() as seen:
        await kind.check(configure(kind, dict(answers)))
        await host.open()
        transport = httpx2.ASGITransport(host)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            for persist in (False, True):
                session = (
                    await http.post(f"{SERVICES}/OpenAI/session", json={"persistInDB": persist})
                ).json()
                sent = await http.post(f"{SERVICES}/OpenAI/message", json={**session, "message": "Hi"})
                assert sent.json()["responseMessage"] == "Hi?"
                history = await http.get(f"{SERVICES}/OpenAI/session-messages", params=session)
                assert len(history.json()["messages"]) == 2
        await host.close()
    url = urlsplit(upstream.url)
    assert seen == {(url.hostname, url.port)}
