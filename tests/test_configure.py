"""`marketplace configure`: the present answers stand unless they are changed."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.host import COMMAND, environment, install, marketplace, serving
from tests.terminal import Terminal
from tests.upstream import KEY, FakeUpstream

KEY_PROMPT = r"OpenAI secret API key \(not shown\): "
OTHER_KEY = "sk-test-other"


def answers(home: Path) -> dict[str, object]:
    stored = json.loads((home / "installs.json").read_text())
    found: dict[str, object] = stored["installs"][0]["answers"]
    return found


@pytest.fixture
def literal(home: Path, upstream: FakeUpstream) -> Path:
    """A home in which the key itself is remembered, as after a prompt."""
    terminal = Terminal(home, "install", "OpenAI", "--set", f"baseUrl={upstream.url}")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see("Default model")
    terminal.type("gpt-4o")
    assert terminal.end() == 0
    assert answers(home)["apiKey"] == KEY
    return home


class TestWithoutATerminal:
    def test_what_is_not_set_stays(self, home: Path, upstream: FakeUpstream) -> None:
        """A variable of the environment does not replace a present answer."""
        install(home, upstream.url, KEY, "--set", "model=gpt-4o")
        before = answers(home)
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "gpt-3.5-turbo"}
        done = marketplace(home, "configure", "OpenAI", "--set", "timeout=30", **environment)
        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            "OpenAI 1.0.0 is configured. Changed: timeout.",
            "A running host takes it over within two seconds.",
        ]
        assert answers(home) == {**before, "timeout": 30}
        assert before["apiKey"] == {"$env": "OPENAI_API_KEY"}

    def test_a_stored_secret_is_not_replaced_by_the_environment(self, literal: Path) -> None:
        """Not even by one that works."""
        done = marketplace(
            literal, "configure", "OpenAI", "--set", "sessionTtl=60", OPENAI_API_KEY="sk-wrong"
        )
        assert done.returncode == 0, done.stderr
        assert answers(literal)["apiKey"] == KEY

    def test_nothing_set_changes_nothing(self, home: Path, upstream: FakeUpstream) -> None:
        """And the file is not written, so that no host takes up what is the same."""
        install(home, upstream.url, KEY)
        before = (home / "installs.json").stat().st_mtime_ns
        done = marketplace(home, "configure", "OpenAI", OPENAI_API_KEY=KEY)
        assert (done.returncode, done.stdout) == (0, "OpenAI 1.0.0 stays as it was.\n")
        assert (home / "installs.json").stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        ("option", "code", "told"),
        [
            ("timeout=soon", 1, "(timeout): expected a whole number"),
            ("timeout=0", 1, "expected integer >= 1. Change it with --set timeout=VALUE."),
            ("model=gpt-99", 1, "gpt-99"),
            ("baseUrl=http://127.0.0.1:9/v1", 1, "Add --no-verify to configure it all the same."),
            ("modle=x", 2, "no item 'modle'"),
            (f"apiKey={KEY}", 2, "--set apiKey=- and a line on standard input"),
            ("timeout", 2, "NAME=VALUE"),
        ],
    )
    def test_what_is_refused_changes_nothing(
        self, home: Path, upstream: FakeUpstream, option: str, code: int, told: str
    ) -> None:
        """The item and the reason are named."""
        install(home, upstream.url, KEY)
        before = (home / "installs.json").read_bytes()
        done = marketplace(home, "configure", "OpenAI", "--set", option, OPENAI_API_KEY=KEY)
        assert done.returncode == code
        assert told in done.stderr
        assert (home / "installs.json").read_bytes() == before

    def test_it_can_be_left_untried(self, home: Path, upstream: FakeUpstream) -> None:
        """For an upstream that is not there yet."""
        install(home, upstream.url, KEY)
        options = ("--no-verify", "--set", "baseUrl=http://127.0.0.1:9/v1")
        assert marketplace(home, "configure", "OpenAI", *options, OPENAI_API_KEY=KEY).returncode == 0
        assert answers(home)["baseUrl"] == "http://127.0.0.1:9/v1"

    def test_a_variable_that_is_gone_is_named(self, home: Path, upstream: FakeUpstream) -> None:
        """The host needs it, too."""
        install(home, upstream.url, KEY)
        done = marketplace(home, "configure", "OpenAI", "--set", "timeout=30")
        assert done.returncode == 2
        assert "was taken from OPENAI_API_KEY, which is not set here" in done.stderr

    def test_an_optional_answer_is_forgotten_when_it_is_set_to_nothing(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """With a default that stands again, without one there is no answer."""
        install(home, upstream.url, KEY, "--set", "organization=org-1", "--set", "timeout=5")
        options = ("--set", "organization=", "--set", "timeout=")
        done = marketplace(home, "configure", "OpenAI", *options, OPENAI_API_KEY=KEY)
        assert "Changed: organization, timeout." in done.stdout
        assert answers(home)["timeout"] == 60
        assert "organization" not in answers(home)

    @pytest.mark.parametrize(("line", "code"), [(f"{OTHER_KEY}\n", 0), ("sk-wrong\n", 1), ("", 1)])
    def test_a_secret_comes_through_a_pipe(
        self, home: Path, upstream: FakeUpstream, line: str, code: int
    ) -> None:
        """So that a script can change it, and nobody reads it in the list of processes."""
        install(home, upstream.url, KEY)
        before = answers(home)
        upstream.keys.add(OTHER_KEY)
        done = subprocess.run(
            [*COMMAND, "configure", "OpenAI", "--set", "apiKey=-"],
            env=environment(home, OPENAI_API_KEY=KEY),
            input=line,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert answers(home) == ({**before, "apiKey": OTHER_KEY} if code == 0 else before)

    def test_programs_are_told_what_changed(self, home: Path, upstream: FakeUpstream) -> None:
        """The names of the items, never their answers."""
        install(home, upstream.url, KEY)
        done = marketplace(home, "configure", "OpenAI", "--set", "timeout=9", "--json", OPENAI_API_KEY=KEY)
        assert json.loads(done.stdout) == {
            "product": "OpenAI",
            "version": "1.0.0",
            "notice": None,
            "changed": ["timeout"],
            "path": "/api/services/OpenAI",
        }

    def test_what_is_not_installed_cannot_be_configured(self, home: Path) -> None:
        """It says how to install it."""
        done = marketplace(home, "configure", "OpenAI")
        assert done.returncode == 1
        assert "OpenAI is not installed." in done.stderr
        assert not home.exists()


class TestTrial:
    def test_it_goes_on(self, home: Path) -> None:
        """A key in the environment does not end it silently."""
        marketplace(home, "install", "OpenAI", "--trial")
        done = marketplace(home, "configure", "OpenAI", "--set", "sessionTtl=5", OPENAI_API_KEY=KEY)
        assert done.stdout.startswith("OpenAI 1.0.0 is configured (practice model). Changed: sessionTtl.")
        again = marketplace(home, "configure", "OpenAI", "--set", "timeout=5")
        assert again.returncode == 0, again.stderr
        assert answers(home)["sessionTtl"] == 5
        assert answers(home)["model"] == "practice-model"

    def test_what_it_decides_cannot_be_changed_alone(self, home: Path) -> None:
        """Half a trial would be neither."""
        marketplace(home, "install", "OpenAI", "--trial")
        done = marketplace(home, "configure", "OpenAI", "--set", "model=gpt-4o")
        assert done.returncode == 2
        assert "leave out --set" in done.stderr

    def test_a_key_leaves_it_behind_as_a_whole(self, home: Path, upstream: FakeUpstream) -> None:
        """Nothing of the practice model stays with the real one."""
        marketplace(home, "install", "OpenAI", "--trial", "--set", "sessionTtl=5")
        terminal = Terminal(home, "configure", "OpenAI", "--set", f"baseUrl={upstream.url}")
        terminal.see(KEY_PROMPT)
        terminal.type(KEY)
        terminal.see(r"Default model \[gpt-3.5-turbo\]: ")
        terminal.type("")
        assert terminal.end() == 0
        assert answers(home) == {
            "apiKey": KEY,
            "model": "gpt-3.5-turbo",
            "baseUrl": upstream.url,
            "sessionTtl": 5,
            "timeout": 60,
            "turnWait": 30,
        }

    def test_enter_alone_keeps_it(self, home: Path) -> None:
        """At the terminal, too."""
        marketplace(home, "install", "OpenAI", "--trial")
        terminal = Terminal(home, "configure", "OpenAI")
        terminal.see("Enter alone keeps the practice model.")
        terminal.see(KEY_PROMPT)
        terminal.type("")
        assert terminal.end() == 0
        assert "OpenAI 1.0.0 stays as it was." in terminal.seen


class TestAtATerminal:
    def test_enter_alone_keeps_each_answer(self, literal: Path) -> None:
        """The present ones are the defaults; the secret is not shown."""
        before = answers(literal)
        terminal = Terminal(literal, "configure", "OpenAI")
        terminal.see("Enter alone keeps the present one.")
        terminal.see(KEY_PROMPT)
        terminal.type("")
        terminal.see(r"Default model \[gpt-4o\]: ")
        terminal.type("")
        assert terminal.end() == 0
        assert KEY not in terminal.seen
        assert "OpenAI 1.0.0 stays as it was." in terminal.seen
        assert answers(literal) == before

    def test_a_secret_of_the_environment_stays_there(self, home: Path, upstream: FakeUpstream) -> None:
        """Enter alone keeps the variable, not its value."""
        install(home, upstream.url, KEY)
        terminal = Terminal(home, "configure", "OpenAI", OPENAI_API_KEY=KEY)
        terminal.see("Enter alone keeps the present one, from OPENAI_API_KEY.")
        terminal.see(KEY_PROMPT)
        terminal.type("")
        terminal.see(r"Default model \[gpt-3.5-turbo\]: ")
        terminal.type("gpt-4o")
        assert terminal.end() == 0
        assert answers(home)["apiKey"] == {"$env": "OPENAI_API_KEY"}
        assert answers(home)["model"] == "gpt-4o"

    def test_a_refused_answer_is_asked_again(self, literal: Path, upstream: FakeUpstream) -> None:
        """Enter alone then goes back to the present one, and nothing was changed before."""
        before = answers(literal)
        terminal = Terminal(literal, "configure", "OpenAI")
        terminal.see(KEY_PROMPT)
        terminal.type("sk-wrong")
        terminal.see(r"Default model \[gpt-4o\]: ")
        terminal.type("gpt-3.5-turbo")
        terminal.see(r"refuses this key \(401\)")
        terminal.see(KEY_PROMPT)
        assert answers(literal) == before
        terminal.type("")
        assert terminal.end() == 0
        assert answers(literal) == {**before, "model": "gpt-3.5-turbo"}

    def test_everything_is_asked_on_request(self, literal: Path) -> None:
        """With the present answers as defaults, also those that are usually not asked."""
        terminal = Terminal(literal, "configure", "OpenAI", "--all")
        for prompt in (KEY_PROMPT, "Default model", "Base URL", "organization", "project"):
            terminal.see(prompt)
            terminal.type("")
        terminal.see(r"Life of a cached session, in seconds \[7200\]: ")
        terminal.type("60")
        terminal.see(r"Longest wait for a reply, in seconds \[60\]: ")
        terminal.type("")
        terminal.see(r"Longest wait for the turn of a session, in seconds \[30\]: ")
        terminal.type("")
        terminal.see("Most tokens to send of a conversation: ")
        terminal.type("")
        assert terminal.end() == 0
        assert "Changed: sessionTtl." in terminal.seen

    def test_ctrl_c_changes_nothing(self, literal: Path) -> None:
        """The exit code is that of an interrupt."""
        before = (literal / "installs.json").read_bytes()
        terminal = Terminal(literal, "configure", "OpenAI")
        terminal.see(KEY_PROMPT)
        terminal.press("c")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.seen
        assert (literal / "installs.json").read_bytes() == before

    def test_a_lost_variable_is_replaced_by_a_key_that_is_typed(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """There is nothing that Enter alone could keep."""
        install(home, upstream.url, KEY)
        terminal = Terminal(home, "configure", "OpenAI")
        terminal.see(KEY_PROMPT)
        assert "Enter alone" not in terminal.seen
        terminal.type(KEY)
        terminal.see("Default model")
        terminal.type("")
        assert terminal.end() == 0
        assert answers(home)["apiKey"] == KEY


def test_the_host_serves_what_was_configured(home: Path, upstream: FakeUpstream) -> None:
    """What is remembered is what a host starts with."""
    install(home, upstream.url, KEY)
    marketplace(home, "configure", "OpenAI", "--set", "model=gpt-4o", OPENAI_API_KEY=KEY)
    with serving(home) as host:
        host.send(host.create_session(), "Hi")
    assert upstream.requests[-1]["model"] == "gpt-4o"
