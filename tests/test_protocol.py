"""HTTP at its edges, spoken by hand over a socket."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.protocol import MAX_HEAD
from tests.host import Host

SERVICE = "/api/services/OpenAI"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


@contextmanager
def connection(host: Host) -> Iterator[socket.socket]:
    address, _, port = host.url.removeprefix("http://").partition(":")
    with socket.create_connection((address, int(port)), timeout=10) as opened:
        yield opened


def answer(caller: socket.socket) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Read one answer: its status line, its headers and its body."""
    with caller.makefile("rb") as stream:
        status = stream.readline()
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.partition(b": ")
            headers[name.lower()] = value
        return status, headers, stream.read(int(headers.get(b"content-length", b"0")))


def request(body: bytes, *, chunked: bool = False, headers: bytes = UPGRADE) -> bytes:
    framing = b"Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}".encode()
    head = f"POST {SERVICE}/session HTTP/1.1\r\nHost: x\r\n".encode() + headers + framing + b"\r\n\r\n"
    return head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


class TestUpgrade:
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    @pytest.mark.parametrize("split", [0, 1, 20, 150, 10_000])
    def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(
        self, host: Host, chunked: bool, split: int
    ) -> None:
        """However it arrives; Java's client offers HTTP/2 with every call. The connection goes on."""
        with connection(host) as caller:
            for _ in range(2):
                whole = request(b'{"persistInDB":true}', chunked=chunked)
                caller.sendall(whole[:split])
                caller.sendall(whole[split:])
                status, _, body = answer(caller)
                assert status == b"HTTP/1.1 200 OK\r\n"
                session = json.loads(body)["sessionId"]
                history = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
                assert history.json()["persistInDB"] is True

    def test_a_body_is_never_taken_for_a_request(self, host: Host) -> None:
        """One request has one answer."""
        inner = b"GET /api/services/INNER HTTP/1.1\r\nHost: x\r\n\r\n"
        with connection(host) as caller:
            caller.sendall(request(inner).removesuffix(inner))
            caller.sendall(inner)
            assert answer(caller)[0] == b"HTTP/1.1 400 Bad Request\r\n"
            caller.sendall(request(b"{}", headers=b"Content-Type: application/json\r\n"))
            assert answer(caller)[0] == b"HTTP/1.1 200 OK\r\n"
        assert "INNER" not in host.log.read_text()

    def test_without_a_body_it_is_a_request_like_any_other(self, host: Host) -> None:
        """A GET offers it, too."""
        with connection(host) as caller:
            for _ in range(2):
                caller.sendall(b"GET /api/services HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
                assert answer(caller)[0] == b"HTTP/1.1 200 OK\r\n"


class TestBounds:
    @pytest.mark.parametrize(
        "start",
        [
            b"GET /" + b"x" * 2 * MAX_HEAD,
            b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 2 * MAX_HEAD,
            b"GET / HTTP/1.1\r\n" + b"X-Many: 1234567\r\n" * (MAX_HEAD // 8),
        ],
        ids=["target", "header", "headers"],
    )
    def test_a_head_has_a_limit(self, host: Host, start: bytes) -> None:
        """It is refused before it is whole."""
        with connection(host) as caller:
            caller.sendall(start)
            status, headers, body = answer(caller)
        assert status == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        assert headers[b"content-type"] == b"application/json"
        assert json.loads(body)["code"] == 8000

    @pytest.mark.parametrize("end", [b"\r\n", b""], ids=["lines", "endless"])
    def test_trailers_have_a_limit(self, host: Host, end: bytes) -> None:
        """They are headers that come late, and a line of them may have no end."""
        with connection(host) as caller:
            caller.sendall(request(b"{}", chunked=True).removesuffix(b"\r\n") + b"X-Trailer: ")
            time.sleep(0.2)
            for _ in range(10):
                caller.sendall(b"x" * 10_000 + end + (b"X-Trailer: " if end else b""))
            assert answer(caller)[0] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"

    def test_a_trailer_is_no_header(self, host: Host) -> None:
        """What comes after the body decides nothing about it."""
        with connection(host) as caller:
            caller.sendall(
                request(b"{}", chunked=True).removesuffix(b"\r\n") + b"Origin: http://evil\r\n\r\n"
            )
            assert answer(caller)[0] == b"HTTP/1.1 200 OK\r\n"

    @pytest.mark.parametrize(("zeros", "status"), [(10, b"200 OK"), (5000, b"400 Bad Request")])
    def test_a_length_may_have_many_zeros(self, host: Host, zeros: int, status: bytes) -> None:
        """It is a number all the same, and too many of them are no internal error."""
        head = f"POST {SERVICE}/session HTTP/1.1\r\nHost: x\r\nContent-Length: {'0' * zeros}2\r\n\r\n"
        with connection(host) as caller:
            caller.sendall(head.encode() + b"{}")
            assert answer(caller)[0] == b"HTTP/1.1 " + status + b"\r\n"

    def test_many_offers_in_one_packet_are_all_answered(self, host: Host) -> None:
        """One after the other."""
        one = b"GET /api/info HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
        with connection(host) as caller, caller.makefile("rb") as stream:
            caller.sendall(one * 500)
            for _ in range(500):
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                length = 0
                while line := stream.readline().strip():
                    name, _, value = line.partition(b": ")
                    length = int(value) if name.lower() == b"content-length" else length
                stream.read(length)

    def test_a_large_body_behind_a_small_head_is_no_large_head(self, host: Host) -> None:
        """Also when both arrive at once."""
        session = host.create_session()
        body = json.dumps({"sessionId": session, "message": "x" * 500_000}).encode()
        head = f"POST {SERVICE}/message HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with connection(host) as caller:
            caller.sendall(head.encode() + body)
            assert answer(caller)[0] == b"HTTP/1.1 200 OK\r\n"


class TestNonsense:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"Transfer-Encoding: gzip\r\n\r\n{}",
        ],
        ids=["tls", "verb", "length", "path", "coding"],
    )
    def test_what_is_no_http_is_told_so(self, host: Host, sent: bytes) -> None:
        """In the shape of all errors, under a request id that the log has."""
        with connection(host) as caller:
            caller.sendall(sent)
            status, headers, body = answer(caller)
        assert status == b"HTTP/1.1 400 Bad Request\r\n"
        assert json.loads(body)["code"] == 8002
        assert headers[b"connection"] == b"close"
        assert headers[b"x-request-id"].decode() in host.log.read_text()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("127.0.0.1:80a", (404, 14002)),
            ("x:99999999", (404, 14002)),
            ("", (404, 14002)),
            ("a b", (400, 8002)),
            ("x/y", (400, 8002)),
        ],
    )
    def test_a_strange_host_is_no_internal_error(
        self, host: Host, name: str, expected: tuple[int, int]
    ) -> None:
        """It is not what decides where a request goes; one that cannot be a name is refused."""
        answer = host.http.get("/nope", headers={"Host": name})
        assert (answer.status_code, answer.json()["code"]) == expected
