"""A facility that goes away takes with it only what needs it, and is found again by itself."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.facilities import cache_url
from tests.host import Host, install, serving
from tests.servers import SERVERS, Server, free_port
from tests.upstream import KEY, FakeUpstream, slow

SERVICE = "/api/services/OpenAI"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own."""
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture
def host(server: Server, home: Path, upstream: FakeUpstream) -> Iterator[Host]:
    """A host that keeps one kind of its sessions there; it does not try for long to save a reply."""
    install(home, upstream.url, KEY, "--set", "timeout=10")
    variable = "MARKETPLACE_CACHE_URL" if "redis" in server.url else "MARKETPLACE_DATABASE_URL"
    with serving(home, **{variable: server.url}) as running:
        yield running


def send(host: Host, session: str, message: str) -> httpx2.Response:
    return host.http.post(f"{SERVICE}/message", json={"sessionId": session, "message": message})


def check_unavailable(answer: httpx2.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, 14004)
    assert int(answer.headers["retry-after"]) > 0
    data: dict[str, Any] = answer.json()["errorData"]
    assert (data["source"], data["retryable"]) == ("host", True)


def test_it_is_told_and_found_again(server: Server, host: Host, upstream: FakeUpstream) -> None:
    """While it is down sessions of the other kind go on; afterwards those that it keeps do, whole."""
    is_cache = "redis" in server.url
    kept = host.create_session(persistInDB=not is_cache)
    other = host.create_session(persistInDB=is_cache)
    assert host.send(kept, "Before") == "Before?"
    server.stop()
    began = time.monotonic()
    check_unavailable(send(host, kept, "Meanwhile"))
    check_unavailable(host.http.post(f"{SERVICE}/session", json={"persistInDB": not is_cache}))
    check_unavailable(host.http.get(f"{SERVICE}/session-messages", params={"sessionId": kept}))
    assert time.monotonic() - began < 20
    assert host.send(other, "Hi") == "Hi?"
    assert "Meanwhile" not in upstream.prompts()
    server.start()
    assert host.send(kept, "After") == "After?"
    assert [text for _, text in host.history(kept)] == ["Before", "Before?", "After", "After?"]
    assert host.create_session(persistInDB=not is_cache)


def test_a_restart_between_two_calls_goes_unnoticed(server: Server, host: Host) -> None:
    """The connections that were lost are made anew before anybody is told."""
    session = host.create_session(persistInDB="redis" not in server.url)
    for number in range(3):
        assert host.send(session, str(number)) == f"{number}?"
        server.stop()
        server.start()
    assert len(host.history(session)) == 6


def test_a_host_starts_without_its_facilities(home: Path, upstream: FakeUpstream) -> None:
    """They are opened on first use, so what is down is told to whom it concerns."""
    install(home, upstream.url, KEY)
    nowhere = {
        "MARKETPLACE_CACHE_URL": f"redis://127.0.0.1:{free_port()}",
        "MARKETPLACE_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{free_port()}/test",
    }
    with serving(home, **nowhere) as host:
        assert host.http.get("/api/services").json()[0]["state"] == "ok"
        for persist in (False, True):
            check_unavailable(host.http.post(f"{SERVICE}/session", json={"persistInDB": persist}))


def test_a_cluster_is_found_by_any_node_that_is_named(home: Path, upstream: FakeUpstream) -> None:
    """A host that starts while one of them is down asks the next."""
    install(home, upstream.url, KEY)
    living = cache_url("cluster").removeprefix("redis+cluster://")
    for nodes in (f"127.0.0.1:{free_port()},{living}", f"{living},127.0.0.1:{free_port()}"):
        with serving(home, MARKETPLACE_CACHE_URL=f"redis+cluster://{nodes}") as host:
            assert host.history(host.create_session()) == []


def test_a_cluster_that_is_down_is_told(home: Path, upstream: FakeUpstream) -> None:
    """As any store that is."""
    install(home, upstream.url, KEY)
    nowhere = f"redis+cluster://127.0.0.1:{free_port()}"
    with serving(home, MARKETPLACE_CACHE_URL=nowhere) as host:
        check_unavailable(host.http.post(f"{SERVICE}/session"))


@pytest.mark.parametrize("server", ["redis", "postgresql"], indirect=True)
def test_a_server_that_hangs_is_told_and_stores_nothing_afterwards(
    server: Server, host: Host, upstream: FakeUpstream
) -> None:
    """Who was told that it failed does not find it stored later; and the host still ends."""
    upstream.behaviours["slow"] = slow(1)
    session = host.create_session(persistInDB="redis" not in server.url)
    host.send(session, "Before")
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(send, host, session, "slow")
        time.sleep(0.5)
        server.freeze()
        answer = sent.result()
        check_unavailable(answer)
        server.thaw()
    time.sleep(1)
    if "redis" not in server.url:
        assert [text for _, text in host.history(session)] == ["Before", "Before?"]
    assert host.send(session, "After") == "After?"
    server.freeze()
    host.http.post(f"{SERVICE}/session", json={"persistInDB": "redis" not in server.url})
    host.stop()
    server.thaw()
    assert host.process.returncode == 0
