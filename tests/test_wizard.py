"""The install wizard at a real terminal."""

import json
import stat
from pathlib import Path

import pexpect
import pytest

from tests.host import COMMAND, environment
from tests.upstream import KEY, FakeUpstream

KEY_PROMPT = r"OpenAI secret API key \(not shown\): "
MODEL_PROMPT = r"Default model \[gpt-3.5-turbo\]: "


class Terminal:
    """Somebody at a terminal, running the wizard."""

    def __init__(self, home: Path, *options: str, **more: str) -> None:
        self.home = home
        self.child: pexpect.spawn[str] = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], "install", "OpenAI", *options],
            env=environment(home, **more),
            encoding="utf-8",
            timeout=10,
        )
        self.seen = ""

    def see(self, pattern: str) -> None:
        """Wait until ``pattern`` is shown."""
        self.child.expect(pattern)
        self.seen += f"{self.child.before}{self.child.after}"

    def type(self, text: str) -> None:
        """Type a line."""
        self.child.sendline(text)

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        self.child.expect(pexpect.EOF)
        self.seen += str(self.child.before)
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)

    def answers(self) -> dict[str, object]:
        """Return what was remembered."""
        file = self.home / "installs.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found: dict[str, object] = json.loads(file.read_text())["installs"][0]["answers"]
        return found


@pytest.fixture
def base_url(upstream: FakeUpstream) -> tuple[str, str]:
    """The option that names the fake upstream."""
    return ("--set", f"baseUrl={upstream.url}")


def test_it_asks_tries_and_remembers(home: Path, base_url: tuple[str, str]) -> None:
    """The key is not echoed; Enter takes the model that is offered."""
    terminal = Terminal(home, *base_url)
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see(MODEL_PROMPT)
    terminal.type("")
    assert terminal.end() == 0
    assert "OpenAI 1.0.0 is installed." in terminal.seen
    assert KEY not in terminal.seen
    assert terminal.answers()["apiKey"] == KEY
    assert terminal.answers()["model"] == "gpt-3.5-turbo"


def test_a_refused_key_is_asked_again_with_the_reason(home: Path, base_url: tuple[str, str]) -> None:
    """The other answers stand; a key that cannot be one is refused without a call."""
    terminal = Terminal(home, *base_url)
    terminal.see(KEY_PROMPT)
    terminal.type("sk-wrong")
    terminal.see(MODEL_PROMPT)
    terminal.type("gpt-4o")
    terminal.see(r"refuses this key \(401\)")
    terminal.see(KEY_PROMPT)
    terminal.type("two words")
    terminal.see("a key has no spaces")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    assert terminal.end() == 0
    assert "sk-wrong" not in terminal.seen
    assert terminal.answers()["model"] == "gpt-4o"
    assert terminal.answers()["apiKey"] == KEY


def test_an_unknown_model_is_asked_again_with_those_there_are(home: Path, base_url: tuple[str, str]) -> None:
    """The key is not asked a second time."""
    terminal = Terminal(home, *base_url)
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see(MODEL_PROMPT)
    terminal.type("gpt-99")
    terminal.see("gpt-99 is not among the models of this key: gpt-3.5-turbo, gpt-4o")
    terminal.see(MODEL_PROMPT)
    terminal.type("gpt-4o")
    assert terminal.end() == 0
    assert terminal.answers()["model"] == "gpt-4o"


def test_enter_alone_takes_the_trial(home: Path) -> None:
    """Nothing else is asked."""
    terminal = Terminal(home)
    terminal.see("Enter alone tries OpenAI without it, with the practice model.")
    terminal.see(KEY_PROMPT)
    terminal.type("")
    assert terminal.end() == 0
    assert "OpenAI 1.0.0 is installed (practice model)." in terminal.seen
    assert terminal.answers()["model"] == "practice-model"


def test_the_trial_is_not_offered_where_an_option_contradicts_it(
    home: Path, base_url: tuple[str, str]
) -> None:
    """With a server of one's own Enter alone is no answer to the key."""
    terminal = Terminal(home, *base_url)
    terminal.see(KEY_PROMPT)
    assert "Enter alone" not in terminal.seen
    terminal.type("")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see(MODEL_PROMPT)
    terminal.type("")
    assert terminal.end() == 0


def test_enter_alone_takes_the_trial_after_a_refused_key_too(home: Path, upstream: FakeUpstream) -> None:
    """Somebody without a working key can still go on, and nothing of the refused one is left."""
    manifest = home.parent / "manifest.yaml"
    text = Path("manifest.yaml").read_text()
    manifest.write_text(
        text.replace("https://api.openai.com/v1\n        asked", f"{upstream.url}\n        asked")
    )
    terminal = Terminal(home, MARKETPLACE_MANIFEST=str(manifest), OPENAI_API_KEY="sk-wrong")
    terminal.see(MODEL_PROMPT)
    terminal.type("")
    terminal.see(r"OpenAI secret API key \(from OPENAI_API_KEY\): .* refuses this key \(401\)\.")
    terminal.see("Enter alone tries OpenAI without it")
    terminal.see(KEY_PROMPT)
    terminal.type("")
    assert terminal.end() == 0
    assert terminal.answers()["apiKey"] == "practice-needs-no-key"


def test_a_key_that_is_typed_takes_the_place_of_a_refused_one(home: Path, base_url: tuple[str, str]) -> None:
    """It is the typed one that is remembered, not the variable."""
    terminal = Terminal(home, *base_url, OPENAI_API_KEY="sk-wrong", OPENAI_MODEL="gpt-4o")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    assert terminal.end() == 0
    assert terminal.answers()["apiKey"] == KEY


@pytest.mark.parametrize("answer", ["n", "", "y"])
def test_an_install_is_not_replaced_unasked(home: Path, answer: str) -> None:
    """Enter alone keeps it."""
    first = Terminal(home, "--trial")
    assert first.end() == 0
    again = Terminal(home, "--trial", "--set", "timeout=7")
    again.see(r"OpenAI is installed\. Replace it\? \[y/N\]: ")
    again.type(answer)
    assert again.end() == 0
    assert again.answers()["timeout"] == (7 if answer == "y" else 60)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_an_unreachable_upstream_is_offered_untried(home: Path, answer: str, code: int) -> None:
    """Enter alone does not install it."""
    terminal = Terminal(home, "--set", "baseUrl=http://127.0.0.1:9/v1")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see(MODEL_PROMPT)
    terminal.type("")
    terminal.see("could not be tried: http://127.0.0.1:9/v1: the upstream cannot be reached")
    terminal.see(r"Install it all the same\? \[y/N\]: ")
    terminal.type(answer)
    assert terminal.end() == code
    assert home.exists() == (code == 0)


@pytest.mark.parametrize("prompts", [[KEY_PROMPT], [KEY_PROMPT, MODEL_PROMPT]], ids=["key", "model"])
@pytest.mark.parametrize(("leave", "code"), [("\x03", 130), ("\x04", 1)], ids=["Ctrl-C", "Ctrl-D"])
def test_leaving_at_any_prompt_leaves_nothing_behind(
    home: Path, prompts: list[str], leave: str, code: int
) -> None:
    """No file, and no stack trace."""
    terminal = Terminal(home)
    for number, prompt in enumerate(prompts, 1):
        terminal.see(prompt)
        if number < len(prompts):
            terminal.type(KEY)
    terminal.child.send(leave)
    assert terminal.end() == code
    assert "Aborted" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert not home.exists()


def test_ctrl_c_while_it_is_tried_leaves_nothing_behind(home: Path, upstream: FakeUpstream) -> None:
    """Waiting for an upstream can be given up, too."""
    from tests.upstream import slow

    upstream.listing = slow(30)
    terminal = Terminal(home, "--set", f"baseUrl={upstream.url}", OPENAI_MODEL="m")
    terminal.see(KEY_PROMPT)
    terminal.type(KEY)
    terminal.see("Trying OpenAI")
    terminal.child.expect(pexpect.TIMEOUT, timeout=2)
    terminal.child.send("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    assert not home.exists()


def test_an_answer_of_the_environment_is_not_asked(home: Path, base_url: tuple[str, str]) -> None:
    """It is told where the answer came from, and the secret stays there."""
    terminal = Terminal(home, *base_url, OPENAI_API_KEY=KEY)
    terminal.see("OpenAI secret API key: taken from OPENAI_API_KEY.")
    terminal.see(MODEL_PROMPT)
    terminal.type("")
    assert terminal.end() == 0
    assert terminal.answers()["apiKey"] == {"$env": "OPENAI_API_KEY"}


def test_everything_is_asked_on_request(home: Path, upstream: FakeUpstream) -> None:
    """Enter alone leaves an optional item out."""
    terminal = Terminal(home, "--all")
    for prompt, answer in {
        KEY_PROMPT: KEY,
        MODEL_PROMPT: "",
        r"Base URL of the API \[https://api.openai.com/v1\]: ": upstream.url,
        "OpenAI organization": "",
        "OpenAI project": "proj-1",
        r"Life of a cached session, in seconds \[7200\]: ": "soon",
        "expected a whole number": "60",
        r"Longest wait for a reply, in seconds \[60\]: ": "0",
        r"Longest wait for the turn of a session, in seconds \[30\]: ": "",
        "Most tokens to send of a conversation: ": "",
        "expected integer >= 1": "",
    }.items():
        terminal.see(prompt)
        terminal.type(answer)
    assert terminal.end() == 0
    assert terminal.answers() == {
        "apiKey": KEY,
        "model": "gpt-3.5-turbo",
        "baseUrl": upstream.url,
        "project": "proj-1",
        "sessionTtl": 60,
        "timeout": 60,
        "turnWait": 30,
    }


def test_no_input_asks_nothing_at_a_terminal_either(home: Path) -> None:
    """A script that runs in one must not hang."""
    terminal = Terminal(home, "--no-input")
    assert terminal.end() == 2
    assert "OPENAI_API_KEY" in terminal.seen
