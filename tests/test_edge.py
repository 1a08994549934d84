"""The outer layer: request ids, the log line, and the bounds of a body."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream

SERVICE = "/api/services/OpenAI"


@pytest.fixture(scope="module")
def host(shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with little patience."""
    home = tmp_path_factory.mktemp("home")
    install(home, shared_upstream.url, KEY)
    with serving(home, MARKETPLACE_MAX_BODY="100000", MARKETPLACE_BODY_TIMEOUT="1") as running:
        yield running


class TestRequestId:
    @pytest.mark.parametrize("path", ["/api/services", "/nope", f"{SERVICE}/session-messages"])
    def test_every_answer_has_one(self, host: Host, path: str) -> None:
        """No two are alike."""
        ids = {host.http.get(path).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3

    def test_a_callers_own_is_kept(self, host: Host) -> None:
        """So that a request can be followed through a balancer and several hosts."""
        answer = host.http.get("/api/services", headers={"X-Request-Id": "abc-1.2_3"})
        assert answer.headers["x-request-id"] == "abc-1.2_3"

    @pytest.mark.parametrize("bad", ["", "a b", 'a"b', "x" * 129])
    def test_a_bad_one_is_replaced(self, host: Host, bad: str) -> None:
        """Nothing goes into the log that could be mistaken for something else."""
        answer = host.http.get("/api/services", headers={"X-Request-Id": bad})
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


class TestLog:
    def test_a_request_is_one_line_without_what_was_said(self, host: Host) -> None:
        """Method, path, status, duration and id; no query, body or header."""
        headers = {"X-Request-Id": "the-id", "Authorization": "Bearer my-token"}
        arguments = {"message": "my-prompt", "sessionId": "my-session"}
        host.http.post(f"{SERVICE}/message?q=my-query", json=arguments, headers=headers)
        lines = [line for line in host.log.read_text().splitlines() if "the-id" in line]
        assert len(lines) == 1
        line = rf".* INFO POST {SERVICE}/message 404 \d+\.\dms request_id=the-id"
        assert re.fullmatch(line, lines[0])
        assert "my-" not in host.log.read_text()

    def test_a_path_cannot_forge_a_line(self, host: Host) -> None:
        """It is logged as it came, with its line breaks encoded."""
        host.http.get("/x%0a2026-01-01%20INFO%20forged")
        assert "\n2026-01-01 INFO forged" not in host.log.read_text()
        assert "/x%0a2026-01-01%20INFO%20forged" in host.log.read_text()


class TestBody:
    @pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
    @pytest.mark.parametrize("size", [100_001, 20_000_000])
    def test_one_over_the_limit_is_refused(self, host: Host, chunked: bool, size: int) -> None:
        """The caller gets the answer even while it is still sending."""
        body = b"x" * size
        content = (body[start : start + 65536] for start in range(0, size, 65536)) if chunked else body
        answer = host.http.post(f"{SERVICE}/message", content=content)
        assert answer.status_code == 413
        assert answer.json()["code"] == 8000
        assert answer.json()["message"] == "Invalid value range"
        assert answer.json()["errorData"]["limit"] == 100_000

    def test_one_at_the_limit_is_read(self, host: Host) -> None:
        """The limit itself is allowed."""
        session = host.create_session()
        overhead = len(f'{{"sessionId":"{session}","message":""}}')
        body = f'{{"sessionId":"{session}","message":"{"x" * (100_000 - overhead)}"}}'
        assert len(body) == 100_000
        assert host.http.post(f"{SERVICE}/message", content=body.encode()).status_code == 200

    @pytest.mark.parametrize("start", [b"", b'{"mess'])
    def test_one_that_does_not_arrive_is_given_up(self, host: Host, start: bytes) -> None:
        """A slow or silent caller is told so, and its connection is closed."""
        address, _, port = host.url.removeprefix("http://").partition(":")
        with socket.create_connection((address, int(port)), timeout=10) as caller:
            caller.sendall(
                f"POST {SERVICE}/message HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n".encode() + start
            )
            began = time.monotonic()
            answer = b""
            while received := caller.recv(65536):
                answer += received
            assert 0.5 < time.monotonic() - began < 5
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b'"code":8002,"message":"Could not parse request with message: ' in body

    def test_a_caller_that_leaves_harms_nobody(self, host: Host) -> None:
        """Its request is logged as left, and the host goes on."""
        address, _, port = host.url.removeprefix("http://").partition(":")
        with socket.create_connection((address, int(port)), timeout=10) as caller:
            caller.sendall(b"POST /left HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            time.sleep(0.1)
        time.sleep(0.1)
        assert "POST /left left " in host.log.read_text()
        assert host.http.get("/api/services").status_code == 200


def test_bad_settings_are_named(tmp_path: Path) -> None:
    """A setting that cannot be used stops the host at once, with its name."""
    from tests.host import marketplace

    for name, value in {
        "MARKETPLACE_MAX_BODY": "4 MiB",
        "MARKETPLACE_BODY_TIMEOUT": "0",
        "MARKETPLACE_CACHE_LIMIT": "-1",
        "MARKETPLACE_CACHE_URL": "redis://localhost",
        "MARKETPLACE_DATABASE_URL": "mysql://localhost",
    }.items():
        done = marketplace(tmp_path, "serve", "--port", "0", **{name: value})
        assert done.returncode == 1
        assert done.stderr.startswith(f"marketplace: {name} ")
