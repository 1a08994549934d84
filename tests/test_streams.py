"""Replies in parts, and keys that are answered once: over HTTP, with a real host."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.host import Host, install, marketplace, serving
from tests.upstream import KEY, FakeUpstream, refusing, slow, streaming

MESSAGE = "/api/services/OpenAI/message"
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def upstream(shared_upstream: FakeUpstream) -> FakeUpstream:
    return shared_upstream


@pytest.fixture(scope="module")
def host(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    home = tmp_path_factory.mktemp("home")
    install(home, upstream.url, KEY, "--set", "timeout=12", "--set", "turnWait=2")
    with serving(home) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["cache", "database"])
def session(request: pytest.FixtureRequest, host: Host) -> str:
    return host.create_session(persistInDB=request.param)


def events(text: str) -> list[tuple[str, Any]]:
    """Return names and data of the events in a stream, without its comments."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def send(host: Host, session: str, message: str, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return host.http.post(MESSAGE, json={"sessionId": session, "message": message}, headers=named)


class TestStreams:
    def test_a_reply_comes_in_parts(self, host: Host, session: str) -> None:
        """Deltas whose sum is the reply, then the very object that the plain call answers."""
        answer = send(host, session, "one two", **EVENTS)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-context-messages"] == "1"
        assert answer.headers["x-request-id"]
        *deltas, last = events(answer.text)
        assert [name for name, _ in deltas] == ["delta"] * 3
        assert [data["text"] for _, data in deltas] == ["one ", "two", "?"]
        assert last == ("message", {"sessionId": session, "responseMessage": "one two?"})
        assert host.history(session) == [("user", "one two"), ("assistant", "one two?")]

    def test_parts_come_when_they_are_made(self, host: Host, upstream: FakeUpstream, session: str) -> None:
        """The first long before the last."""
        upstream.behaviours["drip"] = streaming("a", "b", "c", "d", pause=0.3)
        body = {"sessionId": session, "message": "drip"}
        began = time.monotonic()
        with host.http.stream("POST", MESSAGE, json=body, headers=EVENTS) as answer:
            arrived = [time.monotonic() - began for line in answer.iter_lines() if line.startswith("data")]
        assert len(arrived) == 5
        assert arrived[-1] - arrived[0] > 0.8

    def test_by_its_name_it_streams_as_well(self, host: Host, session: str) -> None:
        """As every method does all that it does."""
        body = {"sessionId": session, "message": "Hi"}
        answer = host.http.post("/api/services/OpenAI/sendMessage", json=body, headers=EVENTS)
        assert [name for name, _ in events(answer.text)] == ["delta", "delta", "message"]

    def test_what_fails_before_the_first_part_is_an_ordinary_error(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """With its status, and in JSON."""
        upstream.behaviours["limit"] = refusing(429, Retry_After="77")
        answer = send(host, session, "limit", **EVENTS)
        assert (answer.status_code, answer.json()["code"]) == (429, 999)
        assert answer.headers["retry-after"] == "77"
        assert answer.headers["content-type"] == "application/json"
        assert send(host, "nobody", "Hi", **EVENTS).status_code == 404
        assert host.http.post(MESSAGE, json={}, headers=EVENTS).status_code == 400

    @pytest.mark.parametrize("parts", [("half a ",), ()])
    def test_a_reply_that_is_cut_short_is_no_reply(
        self, host: Host, upstream: FakeUpstream, session: str, parts: tuple[str, ...]
    ) -> None:
        """Nothing of it is stored; whoever has heard a part of it is told with the envelope."""
        upstream.behaviours["cut"] = streaming(*parts, is_whole=False)
        answer = send(host, session, "cut", **EVENTS)
        if parts:
            assert answer.status_code == 200
            (name, first), (last, envelope) = events(answer.text)
            assert (name, first["text"], last) == ("delta", "half a ", "error")
        else:
            assert answer.status_code == 503
            envelope = answer.json()
        assert envelope["code"] == 14004
        assert envelope["errorData"]["source"] == "openai"
        assert envelope["errorData"]["reason"] == "cut_short"
        assert host.history(session) == []
        assert host.send(session, "next") == "next?"

    def test_a_caller_that_leaves_in_the_middle_loses_nothing(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """The turn is completed and stored."""
        upstream.behaviours["drip"] = streaming("a", "b", "c", "d", pause=0.2)
        body = {"sessionId": session, "message": "drip"}
        with host.http.stream("POST", MESSAGE, json=body, headers=EVENTS) as answer:
            next(answer.iter_lines())
        time.sleep(1.5)
        assert host.history(session) == [("user", "drip"), ("assistant", "abcd")]

    def test_an_upstream_that_does_not_stream_is_taken_as_it_is(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """Its whole answer is one part."""
        upstream.behaviours["whole"] = slow(0)
        assert events(send(host, session, "whole", **EVENTS).text) == [
            ("delta", {"text": "Finally."}),
            ("message", {"sessionId": session, "responseMessage": "Finally."}),
        ]

    def test_a_slow_upstream_makes_a_stream_that_waits(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """The status comes after ten seconds, and what fails then is an event."""
        upstream.behaviours["slow"] = slow(60)
        began = time.monotonic()
        with host.http.stream(
            "POST", MESSAGE, json={"sessionId": session, "message": "slow"}, headers=EVENTS
        ) as answer:
            assert 9 < time.monotonic() - began < 11.5
            assert answer.status_code == 200
            (name, envelope), *more = events(answer.read().decode())
        assert (name, envelope["code"], more) == ("error", 14005, [])
        assert host.history(session) == []


class TestKeys:
    def test_the_same_call_again_is_answered_with_the_same(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """And marked so; the upstream is not asked again. A stream is replayed as a stream."""
        prompt = f"Once in {session}"
        first = send(host, session, prompt, Idempotency_Key="k-1")
        again = send(host, session, prompt, Idempotency_Key="k-1")
        stream = send(host, session, prompt, Idempotency_Key="k-1", **EVENTS)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert first.content == again.content
        assert stream.headers["idempotency-replayed"] == "true"
        assert events(stream.text) == [("delta", {"text": f"{prompt}?"}), ("message", first.json())]
        assert upstream.prompts().count(prompt) == 1

    def test_a_call_waits_for_the_first_one_with_its_key(
        self, host: Host, upstream: FakeUpstream, session: str
    ) -> None:
        """Longer than for anybody else's turn, which is two seconds here."""
        prompt = f"Slow in {session}"
        upstream.behaviours[prompt] = slow(3)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(send(host, session, prompt, Idempotency_Key="k")))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.json()["responseMessage"] for answer in answers} == {"Finally."}
        assert sorted("idempotency-replayed" in answer.headers for answer in answers) == [False, True, True]
        assert upstream.prompts().count(prompt) == 1

    def test_another_message_with_the_same_key_is_a_conflict(self, host: Host, session: str) -> None:
        """It says which key, in the contract's shape."""
        send(host, session, "Hi", Idempotency_Key="k")
        answer = send(host, session, "Ho", Idempotency_Key="k")
        assert (answer.status_code, answer.json()["code"]) == (409, 1155)
        assert answer.json()["message"] == "Duplicate entry"
        assert answer.json()["errorData"]["retryable"] is False

    @pytest.mark.parametrize("key", [b"", b"x" * 256, b"caf\xe9", b"a\tb"])
    def test_a_key_that_is_none_is_refused(self, host: Host, session: str, key: bytes) -> None:
        """After the arguments, which come first."""
        headers = [(b"Idempotency-Key", key)]
        body = {"sessionId": session, "message": "Hi"}
        answer = host.http.post(MESSAGE, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, 8008)
        assert answer.json()["message"] == "Invalid parameter 'Idempotency-Key'"
        answer = host.http.post(MESSAGE, json={}, headers=headers)
        assert answer.json()["errorData"]["parameter"] == "message"

    def test_two_keys_are_none(self, host: Host, session: str) -> None:
        """Nobody knows which one is meant."""
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        body = {"sessionId": session, "message": "Hi"}
        assert host.http.post(MESSAGE, json=body, headers=headers).status_code == 400

    @pytest.mark.parametrize("persist", [False, True], ids=["cache", "database"])
    def test_a_session_is_created_once(self, host: Host, persist: bool) -> None:
        """For a key; with other arguments it is a conflict."""
        route, headers = "/api/services/OpenAI/session", {"Idempotency-Key": f"k {persist}"}
        first = host.http.post(route, json={"persistInDB": persist}, headers=headers)
        again = host.http.post(route, json={"persistInDB": persist}, headers=headers)
        assert first.json() == again.json()
        assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (
            False,
            "true",
        )
        other = host.http.post(route, json={"persistInDB": not persist}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (409, 1155)

    def test_an_answer_outlives_the_host(self, home: Path, upstream: FakeUpstream) -> None:
        """Killed and started again it knows what it has answered."""
        install(home, upstream.url, KEY)
        with serving(home) as host:
            session = host.create_session(persistInDB=True)
            send(host, session, "Outlive", Idempotency_Key="k")
            host.stop(9)
        with serving(home) as host:
            again = send(host, session, "Outlive", Idempotency_Key="k")
        assert again.json()["responseMessage"] == "Outlive?"
        assert again.headers["idempotency-replayed"] == "true"
        assert upstream.prompts().count("Outlive") == 1


def test_a_caller_that_hangs_up_loses_nothing(host: Host, upstream: FakeUpstream, session: str) -> None:
    """Its turn is completed and stored."""
    upstream.behaviours["slow"] = slow(1)
    body = json.dumps({"sessionId": session, "message": "slow"}).encode()
    head = f"POST {MESSAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2]))) as caller:
        caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.3)
    time.sleep(1.5)
    assert host.history(session) == [("user", "slow"), ("assistant", "Finally.")]


def test_the_practice_model_streams(home: Path) -> None:
    """Word by word, as those it stands for; a newcomer can see what it looks like."""
    marketplace(home, "install", "OpenAI", "--trial")
    with serving(home) as host:
        *deltas, (last, answer) = events(send(host, host.create_session(), "One  two", **EVENTS).text)
    assert len(deltas) > 5
    assert (last, "".join(data["text"] for _, data in deltas)) == ("message", answer["responseMessage"])
    assert answer["responseMessage"].endswith("One  two")
