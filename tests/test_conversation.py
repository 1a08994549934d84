"""`marketplace chat`: a conversation with a running host, at a terminal and through pipes."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_host import SESSION, FakeHost, event
from tests.host import COMMAND, NOWHERE, Host, environment
from tests.terminal import Terminal
from tests.upstream import FakeUpstream, refusing, slow

GO_ON = r"To go on: marketplace chat --session ([0-9a-f-]{36})"
ENVELOPE = {"code": 14004, "message": "Service invocation failed: no", "errorData": {"hint": "wait"}}


@pytest.fixture
def fake() -> Iterator[FakeHost]:
    """A fake host of the test's own."""
    with FakeHost().serving() as running:
        yield running


def piped(home: Path, url: str, said: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Chat without a terminal."""
    return subprocess.run(
        [*COMMAND, "chat", *options],
        env=environment(home, MARKETPLACE_URL=url),
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestAtATerminal:
    def test_a_conversation_goes_to_and_fro_until_ctrl_d(self, home: Path, host: Host) -> None:
        """At the end it says how to go on, and going on shows what was said."""
        terminal = Terminal(home, "chat", MARKETPLACE_URL=host.url)
        terminal.see("You: ")
        terminal.type("What is AI?")
        terminal.see(r"OpenAI: What is AI\?\?")
        terminal.see("You: ")
        terminal.type("   ")
        terminal.see("You: ")
        terminal.press("d")
        assert terminal.end() == 0
        session = re.findall(GO_ON, terminal.seen)[0]
        assert host.history(session) == [("user", "What is AI?"), ("assistant", "What is AI??")]
        again = Terminal(home, "chat", "--session", session, MARKETPLACE_URL=host.url)
        again.see(r"You: What is AI\?\r\nOpenAI: What is AI\?\?\r\n")
        again.see("You: ")
        again.type("And ML?")
        again.see(r"OpenAI: And ML\?\?")
        again.see("You: ")
        again.press("d")
        assert again.end() == 0
        assert len(host.history(session)) == 4

    def test_ctrl_c_gives_up_waiting_but_not_the_conversation(
        self, home: Path, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """The turn is completed and stored all the same, as is said."""
        shared_upstream.behaviours["slow"] = slow(3)
        terminal = Terminal(home, "chat", MARKETPLACE_URL=host.url)
        terminal.see("You: ")
        terminal.type("slow")
        while "slow" not in shared_upstream.prompts():
            terminal.child.expect([r"\Z", ".", "\n"], timeout=1)
        terminal.press("c")
        terminal.see("The turn is still completed and stored")
        terminal.see("You: ")
        terminal.type("Next")
        terminal.see(r"OpenAI: Next\?")
        terminal.press("d")
        assert terminal.end() == 0
        history = host.history(re.findall(GO_ON, terminal.seen)[0])
        assert [text for _, text in history] == ["slow", "Finally.", "Next", "Next?"]
        assert "Traceback" not in terminal.seen

    def test_ctrl_c_at_the_prompt_ends_it(self, home: Path, fake: FakeHost) -> None:
        """Quietly, and it still says how to go on."""
        terminal = Terminal(home, "chat", MARKETPLACE_URL=fake.url)
        terminal.see("You: ")
        terminal.type("Hi")
        terminal.see(r"Hi\?")
        terminal.see("You: ")
        terminal.press("c")
        assert terminal.end() == 130
        assert re.search(GO_ON, terminal.seen)
        assert "Traceback" not in terminal.seen

    def test_a_reply_is_shown_as_it_comes(self, home: Path, fake: FakeHost) -> None:
        """Each piece when it is there, and what the host is not heard saying is left out."""
        whole = event("message", sessionId=SESSION, responseMessage="New Delhi.")
        pieces = (b": hold on\n\n", event("delta", text="New "), 2.0, event("delta", text="Del"), 2.0, whole)
        fake.replies = [list(pieces)]
        terminal = Terminal(home, "chat", MARKETPLACE_URL=fake.url)
        terminal.see("You: ")
        terminal.type("Where?")
        terminal.child.timeout = 1
        terminal.see("OpenAI: New ")
        terminal.child.timeout = 15
        terminal.see(r"Delhi\.\r\n")
        terminal.see("You: ")
        terminal.press("d")
        assert terminal.end() == 0
        assert "hold on" not in terminal.seen

    def test_a_reply_cannot_steer_the_terminal(self, home: Path, fake: FakeHost) -> None:
        """Control characters of the model are left out."""
        fake.replies = [
            [event("delta", text="a\x1b[2Jb\x07"), event("message", responseMessage="a\x1b[2Jb\x07")]
        ]
        terminal = Terminal(home, "chat", MARKETPLACE_URL=fake.url)
        terminal.see("You: ")
        terminal.type("Hi")
        terminal.see(r"OpenAI: a\[2Jb\r\n")
        terminal.press("d")
        assert terminal.end() == 0


class TestPiped:
    def test_each_line_is_a_message(self, home: Path, host: Host) -> None:
        """The replies, and nothing else, are on standard output."""
        done = piped(home, host.url, "One\n\nTwo\n", "--persist", "--model", "gpt-4o")
        assert (done.returncode, done.stdout) == (0, "One?\nTwo?\n")
        ended = re.search(GO_ON, done.stderr)
        assert ended
        answer = host.http.get(f"{host.service}/session-messages", params={"sessionId": ended[1]}).json()
        assert (answer["aiModel"], answer["persistInDB"], len(answer["messages"])) == ("gpt-4o", True, 4)

    def test_a_session_is_gone_on_with(self, home: Path, host: Host) -> None:
        """What was said before is known to the model, and not repeated on standard output."""
        session = host.create_session()
        host.send(session, "Before")
        done = piped(home, host.url, "After", "--session", session)
        assert (done.returncode, done.stdout) == (0, "After?\n")
        assert len(host.history(session)) == 4

    def test_nothing_said_makes_no_session(self, home: Path, fake: FakeHost) -> None:
        """A session that nobody talks in is not worth its room."""
        done = piped(home, fake.url, "")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert fake.asked == []

    def test_an_error_does_not_end_the_conversation(
        self, home: Path, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """It is told on standard error, and the exit code says that something failed."""
        shared_upstream.behaviours["bad"] = refusing(400, "No such thing.")
        done = piped(home, host.url, "bad\nGood\n")
        assert (done.returncode, done.stdout) == (1, "Good?\n")
        assert done.stderr.startswith("14000 ")

    @pytest.mark.parametrize(
        ("pieces", "said", "told"),
        [
            ([event("message", responseMessage="Whole.")], "Whole.\nNext?\n", ""),
            ([event("message", responseMessage="")], "\nNext?\n", ""),
            ([event("delta", text="A"), event("message", responseMessage="B")], "A\nB\nNext?\n", ""),
            ([event("delta", text="A"), event("error", **ENVELOPE)], "A\nNext?\n", "14004 Service"),
            ([event("error", **ENVELOPE)], "Next?\n", "14004 Service invocation failed: no (wait)"),
            ([event("delta", text="A")], "A\nNext?\n", "stopped amid its reply"),
            ([b"event: delta\ndata: {\n\n"], "Next?\n", "not one to chat with"),
            ([b"event: error\ndata: {\n\n"], "Next?\n", "an error that cannot be read"),
            ([b'data: {"text":\r\nevent: delta\r\ndata: "\xc3\xa9"}\r\n\r\n'], "\u00e9\nNext?\n", "amid"),
            ([event("later", new=1), event("message", responseMessage="B")], "B\nNext?\n", ""),
        ],
        ids=["whole", "empty", "other", "cut", "error", "end", "broken", "unreadable", "split", "unknown"],
    )
    def test_streams_of_every_kind(
        self, home: Path, fake: FakeHost, pieces: list[bytes | float], said: str, told: str
    ) -> None:
        """Whatever a stream does, what came is shown, its error is told, and the next message works."""
        fake.replies = [pieces]
        done = piped(home, fake.url, "Hi\nNext\n")
        assert done.stdout == said
        assert told in done.stderr
        assert done.returncode == (1 if told else 0)
        assert fake.accepted[1] == "text/event-stream, application/json"
        assert "Traceback" not in done.stderr


class TestStart:
    def test_no_host_is_told_at_once(self, home: Path) -> None:
        """Before anything is typed."""
        done = piped(home, NOWHERE, "Hi\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"marketplace: No host answers at {NOWHERE}: ")
        assert "marketplace serve" in done.stderr

    def test_a_service_that_failed_is_told_with_its_reason(self, home: Path, fake: FakeHost) -> None:
        """There is nobody to talk to."""
        fake.state = {"state": "failed", "reason": "OPENAI_API_KEY is not set."}
        done = piped(home, fake.url, "Hi\n")
        assert done.returncode == 1
        assert "OPENAI_API_KEY is not set." in done.stderr

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--service", "OpnAI"], "no service 'OpnAI'. It has OpenAI."),
            (["--session", SESSION, "--persist"], "leave them out with --session"),
            (["--nope"], "No such option"),
        ],
    )
    def test_what_has_to_be_changed_exits_2(
        self, home: Path, fake: FakeHost, options: list[str], told: str
    ) -> None:
        """And is told."""
        done = piped(home, fake.url, "Hi\n", *options)
        assert done.returncode == 2
        assert told in done.stderr

    def test_a_session_that_is_gone_is_told(self, home: Path, host: Host) -> None:
        """Rather than that another one begins."""
        done = piped(home, host.url, "Hi\n", "--session", SESSION)
        assert (done.returncode, done.stdout) == (1, "")
        assert "1000 Entity with the specified ID cannot be found" in done.stderr
