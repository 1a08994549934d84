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
        assert "/x%0A2026-01-01%20INFO%20forged" in host.log.read_text()


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


class TestAddresses:
    @pytest.mark.parametrize("prefix", ["/api", "//api", "/app-id/api-key", "//app-id//api-key/"])
    def test_both_prefixes_lead_to_everything(self, host: Host, prefix: str) -> None:
        """Listing, methods by route and by name, and what the client asks at its start."""
        base = f"{host.url}{prefix}"
        assert host.http.get(f"{base}/info").json() == {"loggers": []}
        (listed,) = host.http.get(f"{base}/services").json()
        assert listed["name"] == "OpenAI"
        session = host.http.post(f"{base}/services/OpenAI/session").json()["sessionId"]
        body = {"sessionId": session, "message": "Hi"}
        sent = host.http.post(f"{base}/services//OpenAI/sendMessage", json=body)
        assert sent.json()["responseMessage"] == "Hi?"

    def test_a_key_in_the_path_is_not_logged(self, host: Host) -> None:
        """Wherever it leads, and however it is written."""
        for path in ("", "services", "data/Table", "%73ervices/x", "info"):
            host.http.get(f"/app-id/secret-key/{path}")
        log = host.log.read_text()
        assert "GET /app-id/***/services 200" in log
        assert "GET /app-id/***/data/Table 404" in log
        assert "secret-key" not in log


ALLOWED = "https://app.example"
CALL = {"Origin": ALLOWED}


@pytest.fixture(scope="module")
def open_host(shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that lets pages of two origins call."""
    home = tmp_path_factory.mktemp("home")
    install(home, shared_upstream.url, KEY)
    with serving(home, MARKETPLACE_ORIGINS=f"{ALLOWED}/ , http://localhost:3000") as running:
        yield running


class TestOrigins:
    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://app.example", "https://app.example:8443", "null", ""]
    )
    def test_a_foreign_page_is_refused(self, open_host: Host, origin: str) -> None:
        """Before anything is done, also where the browser would not ask first."""
        for verb, path in (("POST", f"{SERVICE}/createSession"), ("GET", "/api/services")):
            answer = open_host.http.request(verb, path, headers={"Origin": origin or "x"})
            assert (answer.status_code, answer.json()["code"]) == (403, 14008)
            assert answer.json()["message"] == "Access denied"
            assert "access-control-allow-origin" not in answer.headers

    def test_an_allowed_page_may_read_answers_and_errors(self, open_host: Host) -> None:
        """With the headers that it needs to know."""
        for path, status in ((f"{SERVICE}/session", 200), (f"{SERVICE}/message", 400), ("/nope", 404)):
            answer = open_host.http.post(path, headers=CALL)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ALLOWED
            assert "retry-after" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"] == "origin"

    def test_an_allowed_page_is_told_what_it_may_send(self, open_host: Host) -> None:
        """A preflight is answered for routes and for method names alike."""
        for path in (f"{SERVICE}/message", f"{SERVICE}/sendMessage"):
            headers = {**CALL, "Access-Control-Request-Method": "POST"}
            answer = open_host.http.options(path, headers=headers)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == ALLOWED
            wanted = {"content-type", "user-token", "bl-execution-type", "authorization"}
            assert wanted <= set(answer.headers["access-control-allow-headers"].split(", "))

    def test_only_a_preflight_is_answered_as_one(self, open_host: Host) -> None:
        """A call that says it were one is a call."""
        headers = {**CALL, "Access-Control-Request-Method": "POST"}
        assert open_host.http.post(f"{SERVICE}/session", headers=headers).json()["sessionId"]

    def test_our_own_page_may_call(self, open_host: Host) -> None:
        """Its origin is the address that it calls."""
        answer = open_host.http.post(f"{SERVICE}/session", headers={"Origin": open_host.url})
        assert answer.status_code == 200

    def test_a_name_that_leads_here_is_not_our_own(self, open_host: Host) -> None:
        """A page can make its own name lead to us after it was loaded; the name must be allowed."""
        headers = {"Origin": "http://evil.example:80", "Host": "evil.example:80"}
        assert open_host.http.post(f"{SERVICE}/session", headers=headers).status_code == 403


def test_bad_settings_are_named(tmp_path: Path) -> None:
    """A setting that cannot be used stops the host at once, with its name."""
    from tests.host import marketplace

    for name, value in [
        ("MARKETPLACE_MAX_BODY", "4 MiB"),
        ("MARKETPLACE_BODY_TIMEOUT", "0"),
        ("MARKETPLACE_CACHE_LIMIT", "-1"),
        ("MARKETPLACE_CACHE_URL", "memcached://localhost"),
        ("MARKETPLACE_CACHE_URL", "redis://:my-password@localhost,elsewhere"),
        ("MARKETPLACE_CACHE_URL", "redis+cluster://:my-password@localhost:6379,"),
        ("MARKETPLACE_CACHE_URL", "redis+cluster://:my-password@localhost:6379,elsewhere:port"),
        ("MARKETPLACE_DATABASE_URL", "oracle://user:my-password@localhost/x"),
        ("MARKETPLACE_ORIGINS", "https://app.example, *"),
    ]:
        done = marketplace(tmp_path, "serve", "--port", "0", **{name: value})
        assert done.returncode == 1
        assert done.stderr.startswith(f"marketplace: {name} ")
        assert "my-password" not in done.stderr
