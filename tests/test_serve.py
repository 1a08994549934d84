"""A host over its life: what it tells, what fails beside it, and what outlives it."""

import concurrent.futures
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.facilities import cache_environment
from tests.host import Host, install, marketplace, serving
from tests.upstream import KEY, FakeUpstream, slow

SERVICE = "/api/services/OpenAI"


class TestListing:
    def test_it_tells_what_is_installed(self, host: Host) -> None:
        """Each service with its state and its methods; no answer to its configuration."""
        assert host.http.get("/api/services").json() == [
            {
                "name": "OpenAI",
                "version": "1.0.0",
                "summary": "ChatGPT conversations behind three REST calls",
                "state": "ok",
                "reason": None,
                "notice": None,
                "methods": [
                    {
                        "name": "createSession",
                        "verb": "POST",
                        "route": f"{SERVICE}/session",
                        "arguments": [
                            {"name": "aiModel", "type": "string", "required": False},
                            {"name": "persistInDB", "type": "boolean", "required": False},
                        ],
                    },
                    {
                        "name": "sendMessage",
                        "verb": "POST",
                        "route": f"{SERVICE}/message",
                        "arguments": [
                            {"name": "message", "type": "string", "required": True},
                            {"name": "sessionId", "type": "string", "required": True},
                        ],
                    },
                    {
                        "name": "getSessionMessages",
                        "verb": "GET",
                        "route": f"{SERVICE}/session-messages",
                        "arguments": [{"name": "sessionId", "type": "string", "required": True}],
                    },
                ],
            }
        ]

    def test_nothing_installed_is_an_empty_list(self, home: Path) -> None:
        """The host says where to look."""
        with serving(home) as host:
            assert host.http.get("/api/services").json() == []
            assert host.http.get(f"{SERVICE}/session-messages").json()["code"] == 14001
            assert host.process.stdout is not None
            assert "marketplace install" in host.process.stdout.readline()


class TestTrial:
    def test_the_three_lines_it_prints_work_when_pasted(self, home: Path) -> None:
        """One after the other, in a shell; the first puts the session's id into a variable."""
        marketplace(home, "install", "OpenAI", "--trial")
        with serving(home) as host:
            assert host.process.stdout is not None
            printed = [host.process.stdout.readline() for _ in range(9)]
            assert printed[1] == "OpenAI 1.0.0 (practice model)\n"
            lines = [line for line in printed if "curl" in line]
            assert len(lines) == 3
            done = subprocess.run(["sh", "-ec", "".join(lines)], capture_output=True, text=True, check=True)
            sent, history = done.stdout.splitlines()
            reply = "This is the practice model; I only repeat. You said: What is the capital of India?"
            assert f'"responseMessage":"{reply}"' in sent
            assert '"aiModel":"practice-model"' in history
            assert host.http.get("/api/services").json()[0]["notice"] == "practice model"

    def test_the_practice_model_sees_the_history(self, home: Path) -> None:
        """So that somebody who tries it sees a conversation."""
        marketplace(home, "install", "OpenAI", "--trial")
        with serving(home) as host:
            session = host.create_session()
            host.send(session, "One")
            assert host.send(session, "Two").endswith("You said: Two\nBefore that you said: One")


class TestRestart:
    def test_persisted_sessions_go_on_and_cached_ones_are_gone(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """As the README says."""
        install(home, upstream.url, KEY)
        with serving(home) as host:
            persisted = host.create_session(persistInDB=True)
            cached = host.create_session()
            host.send(persisted, "Before")
            host.send(cached, "Before")
        with serving(home) as host:
            assert host.send(persisted, "After") == "After?"
            texts = [text for _, text in host.history(persisted)]
            assert texts == ["Before", "Before?", "After", "After?"]
            gone = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": cached})
            assert gone.status_code == 404

    def test_a_kill_loses_no_stored_turn(self, home: Path, upstream: FakeUpstream) -> None:
        """What was answered is there, and what was not answered is not there in part."""
        install(home, upstream.url, KEY)
        upstream.behaviours["slow"] = slow(5)
        with serving(home) as host:
            session = host.create_session(persistInDB=True)
            host.send(session, "Stored")
            with concurrent.futures.ThreadPoolExecutor() as pool:
                unanswered = pool.submit(host.send, session, "slow")
                time.sleep(0.5)
                host.stop(signal.SIGKILL)
                with pytest.raises(httpx2.TransportError):
                    unanswered.result()
        with serving(home) as host:
            assert [text for _, text in host.history(session)] == ["Stored", "Stored?"]

    def test_the_database_is_not_touched_for_cached_sessions(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """It comes into being with the first session that wants it."""
        install(home, upstream.url, KEY)
        with serving(home) as host:
            host.send(host.create_session(), "Hi")
            assert not (home / "marketplace.db").exists()
            host.create_session(persistInDB=True)
            assert (home / "marketplace.db").exists()


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_requests_in_flight_are_finished(self, home: Path, upstream: FakeUpstream, number: int) -> None:
        """The caller gets its reply, it is stored, and nobody new is let in."""
        install(home, upstream.url, KEY)
        upstream.behaviours["slow"] = slow(1.5)
        with serving(home) as host:
            session = host.create_session(persistInDB=True)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                reply = pool.submit(host.send, session, "slow")
                time.sleep(0.5)
                host.process.send_signal(number)
                time.sleep(0.3)
                with pytest.raises(httpx2.ConnectError):
                    httpx2.get(f"{host.url}/api/services", trust_env=False)
                assert reply.result() == "Finally."
            host.process.wait(10)
            assert "Traceback" not in host.log.read_text()
        with serving(home) as host:
            assert len(host.history(session)) == 2

    def test_a_caller_that_hangs_up_does_not_lose_the_turn(self, home: Path, upstream: FakeUpstream) -> None:
        """It is completed and stored."""
        install(home, upstream.url, KEY)
        upstream.behaviours["slow"] = slow(0.5)
        with serving(home) as host:
            session = host.create_session()
            body = {"sessionId": session, "message": "slow"}
            with pytest.raises(httpx2.ReadTimeout):
                host.http.post(f"{SERVICE}/message", json=body, timeout=0.2)
            assert host.send(session, "Next") == "Next?"
            assert [text for _, text in host.history(session)] == ["slow", "Finally.", "Next", "Next?"]


class TestFailures:
    def test_a_service_that_cannot_start_is_listed_with_the_reason(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """Its routes say so, and the rest works."""
        install(home, upstream.url, KEY)
        with serving(home, OPENAI_API_KEY="") as host:
            (info,) = host.http.get("/api/services").json()
            assert info["state"] == "failed"
            assert "OPENAI_API_KEY is not set" in info["reason"]
            answer = host.http.post(f"{SERVICE}/session")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            body = answer.json()
            assert body["code"] == 14004
            assert body["message"].startswith("Service invocation failed: OpenAI failed to start.")
            assert body["errorData"]["source"] == "host"
            assert host.http.get("/nope").status_code == 404

    def test_a_bad_configuration_fails_the_service_and_shows_nothing(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """A key that changed for the worse in the environment is not quoted."""
        install(home, upstream.url, KEY)
        with serving(home, OPENAI_API_KEY="sk-secret with spaces") as host:
            (info,) = host.http.get("/api/services").json()
            assert info["state"] == "failed"
            assert "a key has no spaces" in info["reason"]
            assert "sk-secret" not in host.log.read_text() + str(info)

    def test_a_product_that_is_no_longer_offered_is_told(self, home: Path) -> None:
        """An install outlives its product."""
        marketplace(home, "install", "OpenAI", "--trial")
        manifest = home / "manifest.yaml"
        manifest.write_text("products: []")
        with serving(home, MARKETPLACE_MANIFEST=str(manifest)) as host:
            (info,) = host.http.get("/api/services").json()
            assert info["reason"] == "There is no product 'OpenAI'. On offer: nothing."
        listed = marketplace(home, "services", MARKETPLACE_MANIFEST=str(manifest))
        assert listed.stdout == "OpenAI 1.0.0  not running  (no longer on offer)\n"

    def test_a_broken_plugin_is_told(self, home: Path) -> None:
        """Its import fails; the host runs."""
        marketplace(home, "install", "OpenAI", "--trial")
        text = Path("manifest.yaml").read_text().replace("plugins.openai_chat", "plugins.nowhere")
        manifest = home / "manifest.yaml"
        manifest.write_text(text)
        with serving(home, MARKETPLACE_MANIFEST=str(manifest)) as host:
            (info,) = host.http.get("/api/services").json()
            assert info["reason"].startswith(
                "The plugin plugins.nowhere cannot be loaded: ModuleNotFoundError"
            )

    def test_a_broken_database_harms_only_what_needs_it(self, home: Path, upstream: FakeUpstream) -> None:
        """Cached sessions go on; the others are told to try again."""
        install(home, upstream.url, KEY)
        (home / "marketplace.db").write_text("This is no database." * 100)
        with serving(home) as host:
            answer = host.http.post(f"{SERVICE}/session", json={"persistInDB": True})
            assert (answer.status_code, answer.json()["code"]) == (503, 14004)
            assert answer.headers["retry-after"]
            assert answer.json()["errorData"]["source"] == "host"
            assert host.send(host.create_session(), "Hi") == "Hi?"
            assert "file is not a database" in host.log.read_text()

    def test_a_full_cache_is_told_before_the_upstream_is_asked(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """Nothing is paid for that could not be stored."""
        install(home, upstream.url, KEY)
        with serving(home, MARKETPLACE_CACHE_LIMIT="5000") as host:
            session = host.create_session()
            assert host.send(session, "Hi") == "Hi?"
            body = {"sessionId": session, "message": "x" * 5000}
            refused = [
                host.http.post(f"{SERVICE}/message", json=body),
                host.http.post(f"{SERVICE}/session", json={"aiModel": "x" * 5000}),
            ]
            for answer in refused:
                assert (answer.status_code, answer.json()["code"]) == (503, 16000)
                assert 0 < int(answer.headers["retry-after"]) <= 7260
            assert upstream.prompts() == ["Hi"]
            assert host.send(session, "Hi again") == "Hi again?"

    def test_messages_of_one_session_queue_over_the_socket(self, home: Path, upstream: FakeUpstream) -> None:
        """Twenty callers at once: each turn is whole, and each is asked with all before it."""
        install(home, upstream.url, KEY)
        with serving(home) as host:
            session = host.create_session()
            barrier = threading.Barrier(20)

            def send(number: int) -> str:
                barrier.wait()
                return host.send(session, str(number))

            with concurrent.futures.ThreadPoolExecutor(20) as pool:
                replies = list(pool.map(send, range(20)))
            assert replies == [f"{number}?" for number in range(20)]
            texts = [text for _, text in host.history(session)]
            assert texts == [text for prompt in upstream.prompts() for text in (prompt, f"{prompt}?")]
            assert [len(request["messages"]) for request in upstream.requests] == list(range(1, 41, 2))


class TestCommand:
    def test_more_than_one_worker_needs_a_shared_cache(self, home: Path) -> None:
        """The reason and the cure are told."""
        done = marketplace(home, "serve", "--port", "0", "--workers", "2")
        assert done.returncode == 1
        assert "a second worker would not know them. Leave out --workers" in done.stderr
        assert "MARKETPLACE_CACHE_URL" in done.stderr

    def test_workers_share_a_cache(self, home: Path, upstream: FakeUpstream) -> None:
        """A session goes on in whichever process a call arrives at; one signal ends them all."""
        install(home, upstream.url, KEY)
        with serving(home, "--workers", "2", **cache_environment("redis")) as host:
            session = host.create_session()
            for number in range(20):
                # A connection each: so the calls spread over the workers.
                with httpx2.Client(base_url=host.url, trust_env=False) as http:
                    body = {"sessionId": session, "message": str(number)}
                    assert http.post(f"{SERVICE}/message", json=body).status_code == 200
            assert len(host.history(session)) == 40
            host.stop()
        assert "Traceback" not in host.log.read_text()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_ending_it_is_no_failure(self, home: Path, number: int) -> None:
        """The exit code is 0, and there is nothing to complain about."""
        with serving(home) as host:
            host.http.get("/api/services")
            host.stop(number)
            assert host.process.returncode == 0
            assert "Aborted" not in host.log.read_text()

    def test_a_second_ctrl_c_does_not_wait(self, home: Path, upstream: FakeUpstream) -> None:
        """It says what was cut off, in a line."""
        install(home, upstream.url, KEY)
        upstream.behaviours["slow"] = slow(20)
        with serving(home) as host:
            session = host.create_session()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                cut = pool.submit(host.send, session, "slow")
                time.sleep(0.5)
                host.process.send_signal(signal.SIGINT)
                time.sleep(0.5)
                host.stop(signal.SIGINT)
                with pytest.raises(httpx2.TransportError):
                    cut.result()
            log = host.log.read_text()
            assert (
                "Finishing 1 requests. Ctrl-C cuts them off.\nStopped at once; 1 requests were cut off."
                in log
            )
            assert "Traceback" not in log

    @pytest.mark.parametrize("options", [("--port", "99999"), ("--port", "-1"), ("--workers", "0")])
    def test_a_number_out_of_range_is_told(self, home: Path, options: tuple[str, str]) -> None:
        """In a line, with exit code 2."""
        done = marketplace(home, "serve", *options)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr

    def test_a_port_that_is_taken_is_told(self, home: Path) -> None:
        """With what to do about it."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = marketplace(home, "serve", "--port", str(port))
        assert done.returncode == 1
        assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Choose" in done.stderr
