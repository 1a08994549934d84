"""`marketplace invoke` and `marketplace services`: a running host, asked from the command line."""

import json
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fake_host import FakeHost
from tests.host import COMMAND, NOWHERE, Host, environment, marketplace
from tests.upstream import FakeUpstream, raw_upstream, slow


def call(home: Path, host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    return marketplace(home, "invoke", *arguments, MARKETPLACE_URL=host.url)


class TestInvoke:
    def test_the_three_methods_answer_as_json(self, home: Path, host: Host) -> None:
        """Each called by its name, with arguments of their types."""
        created = call(home, host, "OpenAI", "createSession", "aiModel=gpt-4o", "persistInDB=true")
        assert (created.returncode, created.stderr) == (0, "")
        session = json.loads(created.stdout)["sessionId"]
        said = ('message=What is "AI" = 1 := 2?\u00e9', f"sessionId={session}")
        sent = call(home, host, "OpenAI", "sendMessage", *said)
        reply = 'What is "AI" = 1 := 2?\u00e9?'
        assert json.loads(sent.stdout) == {"sessionId": session, "responseMessage": reply}
        assert "\u00e9" in sent.stdout
        history = call(home, host, "OpenAI", "getSessionMessages", f'sessionId:="{session}"')
        answer = json.loads(history.stdout)
        assert (answer["aiModel"], answer["persistInDB"], len(answer["messages"])) == ("gpt-4o", True, 2)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["OpnAI", "createSession"], "has no service 'OpnAI'. It has OpenAI."),
            (["OpenAI", "sendMesage"], "Did you mean sendMessage? It has createSession, sendMessage, get"),
            (
                ["OpenAI", "createSession", "persistInDb=true"],
                "Did you mean persistInDB? It has aiModel, per",
            ),
            (["OpenAI", "createSession", "persistInDB=yes"], "persistInDB is true or false, not 'yes'."),
            (["OpenAI", "createSession", "persistInDB=1"], "persistInDB is true or false, not '1'."),
            (["OpenAI", "createSession", "persistInDB:=yes"], "persistInDB:=yes is no JSON."),
            (["OpenAI", "createSession", "persistInDB"], "is no argument: write NAME=VALUE, or NAME:=JSON."),
            (["OpenAI"], "Missing argument 'METHOD'"),
            (["OpenAI", "createSession", "--timeout", "0"], "--timeout"),
        ],
    )
    def test_a_call_that_has_to_be_changed_exits_2(
        self, home: Path, host: Host, arguments: list[str], told: str
    ) -> None:
        """It says what there is, and what was probably meant."""
        done = call(home, host, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in " ".join(done.stderr.split())

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["sendMessage", "message=x"], "8007 Missing parameter 'sessionId'.\n"),
            (["createSession", "persistInDB:=1"], "8008 Invalid parameter 'persistInDB'"),
            (
                ["sendMessage", "message=x", "sessionId=y"],
                "1000 Entity with the specified ID cannot be found",
            ),
        ],
    )
    def test_an_error_of_the_host_is_told_as_it_is(
        self, home: Path, host: Host, arguments: list[str], told: str
    ) -> None:
        """Code, message and hint, and the exit code is 1."""
        done = call(home, host, "OpenAI", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(told)

    def test_the_hint_is_in_brackets(self, home: Path, host: Host) -> None:
        """As it says what to do."""
        done = call(home, host, "OpenAI", "createSession", "persistInDB:=1")
        assert done.stderr == "8008 Invalid parameter 'persistInDB' (expected boolean, got integer)\n"

    def test_it_waits_as_long_as_it_may(self, home: Path, host: Host, shared_upstream: FakeUpstream) -> None:
        """Longer than that is told."""
        shared_upstream.behaviours["slow"] = slow(4)
        said = ("message=slow", f"sessionId={host.create_session()}")
        done = call(home, host, "OpenAI", "sendMessage", *said, "--timeout", "1")
        assert done.returncode == 1
        assert "nothing came within 1 s." in done.stderr
        assert "Finally." in call(home, host, "OpenAI", "sendMessage", *said, "--timeout", "30").stdout

    def test_ctrl_c_ends_it_quietly(self, home: Path, host: Host, shared_upstream: FakeUpstream) -> None:
        """With the exit code of an interrupt."""
        shared_upstream.behaviours["wait"] = slow(5)
        said = ("message=wait", f"sessionId={host.create_session()}")
        with subprocess.Popen(
            [*COMMAND, "invoke", "OpenAI", "sendMessage", *said],
            env=environment(home, MARKETPLACE_URL=host.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while "wait" not in shared_upstream.prompts():
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=10)
        assert (process.returncode, told) == (130, "\nAborted.\n")

    def test_no_host_exits_1(self, home: Path) -> None:
        """It says where it was looked for, and how to start one."""
        done = marketplace(home, "invoke", "OpenAI", "createSession")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"No host answers at {NOWHERE}: Connection refused." in done.stderr
        assert "marketplace serve" in done.stderr

    @pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:y", "http://a b"])
    def test_an_address_that_is_none_is_told(self, home: Path, url: str) -> None:
        """It names the variable."""
        done = marketplace(home, "invoke", "OpenAI", "createSession", MARKETPLACE_URL=url)
        assert done.returncode == 1
        assert "MARKETPLACE_URL has to be an address such as http://127.0.0.1:8080." in done.stderr


class TestServices:
    def test_a_running_service_is_ok(self, home: Path, host: Host) -> None:
        """Here it is one that another home has installed."""
        done = marketplace(home, "services", MARKETPLACE_URL=host.url)
        assert done.stdout == "OpenAI 1.0.0  ok  (not installed here)\n"

    def test_what_is_installed_shows_its_state(self, home: Path, host: Host) -> None:
        """For programs with all there is to know."""
        marketplace(home, "install", "OpenAI", "--trial")
        done = marketplace(home, "services", "--json", MARKETPLACE_URL=f"{host.url}/")
        assert json.loads(done.stdout) == [
            {
                "name": "OpenAI",
                "version": "1.0.0",
                "state": "ok",
                "reason": None,
                "notice": "practice model",
                "installed": True,
            }
        ]

    def test_a_failed_service_shows_its_reason(self, home: Path) -> None:
        """As the host tells it, without what could steer the terminal."""
        marketplace(home, "install", "OpenAI", "--trial")
        fake = FakeHost()
        fake.state = {"state": "failed", "reason": "OPENAI_API_KEY is not set.\x1b[2J"}
        with fake.serving():
            done = marketplace(home, "services", MARKETPLACE_URL=fake.url)
        assert done.stdout == "OpenAI 1.0.0  failed: OPENAI_API_KEY is not set.[2J  (practice model)\n"

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "answers, but not as a host does"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[1,2,3]", "answers, but not as a host does"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff", "answers, but not as a host does"),
            (b"HTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n", "answers, but not as a host does: 404 Nope"),
            (b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "not as a host does: 302 Go"),
            (b"SSH-2.0-OpenSSH\r\n", "No host answers"),
            (b"", "No host answers"),
        ],
        ids=["html", "numbers", "bytes", "404", "redirect", "ssh", "nothing"],
    )
    def test_rubbish_is_not_running(self, home: Path, answer: bytes, why: str) -> None:
        """It says why."""
        marketplace(home, "install", "OpenAI", "--trial")
        with raw_upstream(answer) as url:
            done = marketplace(home, "services", MARKETPLACE_URL=url.removesuffix("/v1"))
        assert (done.returncode, done.stdout) == (0, "OpenAI 1.0.0  not running  (practice model)\n")
        assert why in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_host_that_drips_is_not_waited_for(self, home: Path) -> None:
        """Two seconds are the end of it, however it answers."""
        marketplace(home, "install", "OpenAI", "--trial")
        with dripping_host() as url:
            before = time.monotonic()
            done = marketplace(home, "services", MARKETPLACE_URL=url)
            assert time.monotonic() - before < 6
        assert "nothing came within 2 s." in done.stderr
        assert "not running" in done.stdout


@contextmanager
def dripping_host() -> Iterator[str]:
    """Serve a host that answers a byte every tenth of a second."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            try:
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 100:
                    self.request.sendall(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                pass  # nobody listens any more

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), name="dripping host").start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
