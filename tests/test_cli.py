"""The `marketplace` command without a terminal: what scripts and containers see."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import environment, marketplace
from tests.upstream import KEY, Behaviour, FakeUpstream, garbled, refusing

NOWHERE = "http://127.0.0.1:9/v1"


def answers(home: Path) -> dict[str, object]:
    stored = json.loads((home / "installs.json").read_text())
    found: dict[str, object] = stored["installs"][0]["answers"]
    return found


class TestInstall:
    def test_answers_come_from_options_environment_and_defaults(
        self, home: Path, upstream: FakeUpstream
    ) -> None:
        """An option goes before the environment; a secret stays in the environment."""
        done = marketplace(
            home,
            *("install", "OpenAI", "--set", f"baseUrl={upstream.url}", "--set", "model=gpt-4o"),
            OPENAI_API_KEY=KEY,
            OPENAI_MODEL="gpt-3.5-turbo",
        )
        assert done.returncode == 0
        assert done.stdout.startswith("OpenAI 1.0.0 is installed.\n")
        assert "curl -sS http://127.0.0.1:9/api/services/OpenAI/message" in done.stdout
        assert answers(home) == {
            "apiKey": {"$env": "OPENAI_API_KEY"},
            "model": "gpt-4o",
            "baseUrl": upstream.url,
            "sessionTtl": 7200,
            "timeout": 60,
            "turnWait": 30,
        }

    def test_a_missing_answer_exits_2_and_names_the_ways(self, home: Path) -> None:
        """The variable and the trial, for a secret; nothing is left behind."""
        done = marketplace(home, "install", "OpenAI")
        assert done.returncode == 2
        assert "OPENAI_API_KEY" in done.stderr
        assert "apiKey" in done.stderr
        assert "--trial" in done.stderr
        assert not home.exists()

    @pytest.mark.parametrize(
        ("option", "told"),
        [
            (f"apiKey={KEY}", "OPENAI_API_KEY"),
            ("modle=x", "it has model, baseUrl"),
            ("model", "NAME=VALUE"),
        ],
    )
    def test_an_option_that_is_not_allowed_exits_2(self, home: Path, option: str, told: str) -> None:
        """A secret in argv is seen by every user of the machine: it is refused, and not repeated."""
        done = marketplace(home, "install", "OpenAI", "--set", option)
        assert done.returncode == 2
        assert told in done.stderr
        assert KEY not in done.stderr

    @pytest.mark.parametrize(
        ("option", "told"),
        [
            ("timeout=soon", "Longest wait for a reply, in seconds (timeout): expected a whole number"),
            ("timeout=0", "Longest wait for a reply, in seconds: expected integer >= 1."),
            ("baseUrl=api.openai.com", "Base URL of the API: expected an address such as https://"),
            (
                "model=gpt-99",
                "Default model: gpt-99 is not among the models of this key: gpt-3.5-turbo, gpt-4o",
            ),
            ("model=", "Default model: "),
            ("baseUrl=http://[bad/v1", "Base URL of the API: expected an address such as https://"),
            ("baseUrl=http://x:99999/v1", "Base URL of the API: expected an address such as https://"),
            ("organization=\u00e9", "OpenAI organization: an id has no spaces or accented letters"),
        ],
    )
    def test_an_answer_that_is_refused_exits_1(
        self, home: Path, upstream: FakeUpstream, option: str, told: str
    ) -> None:
        """The item, the reason and the option are named, and nothing is left behind."""
        options = ("--set", f"baseUrl={upstream.url}", "--set", option)
        done = marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY)
        assert done.returncode == 1
        assert told in done.stderr
        assert not home.exists()

    @pytest.mark.parametrize("key", ["sk-wrong", "sk wrong", "sk-\u00fc", "sk-\nX-Injected: 1"])
    def test_a_refused_key_exits_1_and_is_not_repeated(
        self, home: Path, upstream: FakeUpstream, key: str
    ) -> None:
        """Whether the upstream refuses it or it cannot be a key at all."""
        done = marketplace(home, "install", "OpenAI", "--set", f"baseUrl={upstream.url}", OPENAI_API_KEY=key)
        assert done.returncode == 1
        assert "OpenAI secret API key (from OPENAI_API_KEY): " in done.stderr
        assert "OPENAI_API_KEY" in done.stderr
        assert key not in done.stdout + done.stderr
        assert not home.exists()

    def test_an_upstream_that_cannot_be_reached_exits_1(self, home: Path) -> None:
        """The way to install all the same is named."""
        done = marketplace(home, "install", "OpenAI", "--set", f"baseUrl={NOWHERE}", OPENAI_API_KEY=KEY)
        assert done.returncode == 1
        assert "--no-verify" in done.stderr
        assert not home.exists()

    def test_it_can_be_installed_untried(self, home: Path) -> None:
        """For a machine that is prepared before it is connected."""
        options = ("--no-verify", "--set", f"baseUrl={NOWHERE}")
        assert marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY).returncode == 0

    @pytest.mark.parametrize(
        "listing",
        [garbled(b'{"data": []}'), garbled(b"<html>"), refusing(404, "/v1/models was not found")],
        ids=["empty", "unreadable", "missing"],
    )
    def test_an_upstream_without_a_list_of_models_is_no_reason_to_refuse(
        self, home: Path, upstream: FakeUpstream, listing: Behaviour
    ) -> None:
        """Many compatible servers list nothing: then any model will do."""
        upstream.listing = listing
        options = ("--set", f"baseUrl={upstream.url}", "--set", "model=local")
        assert marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY).returncode == 0

    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_an_upstream_in_trouble_is_not_the_keys_fault(
        self, home: Path, upstream: FakeUpstream, status: int
    ) -> None:
        """It could not be tried, which is told apart from refused."""
        upstream.listing = refusing(status)
        done = marketplace(home, "install", "OpenAI", "--set", f"baseUrl={upstream.url}", OPENAI_API_KEY=KEY)
        assert done.returncode == 1
        assert "could not be tried" in done.stderr

    def test_an_unknown_product_exits_1(self, home: Path) -> None:
        """With those that are on offer."""
        done = marketplace(home, "install", "ChatGPT")
        assert (done.returncode, done.stderr) == (
            1,
            "marketplace: There is no product 'ChatGPT'. On offer: OpenAI.\n",
        )


class TestTrial:
    def test_it_needs_nothing(self, home: Path) -> None:
        """Whatever shows it says that it is the practice model."""
        done = marketplace(home, "install", "OpenAI", "--trial")
        assert done.returncode == 0
        assert done.stdout.startswith("OpenAI 1.0.0 is installed (practice model).\n")
        assert marketplace(home, "services").stdout == "OpenAI 1.0.0  not running  (practice model)\n"

    def test_its_own_answers_cannot_be_changed(self, home: Path) -> None:
        """Half a trial would be neither."""
        done = marketplace(home, "install", "OpenAI", "--trial", "--set", "model=gpt-4o")
        assert done.returncode == 2
        assert "leave out --set" in done.stderr

    def test_a_key_of_the_environment_is_left_out(self, home: Path) -> None:
        """The trial has a key of its own, and works behind any proxy."""
        proxy = {"HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE, "no_proxy": ""}
        done = marketplace(home, "install", "OpenAI", "--trial", OPENAI_API_KEY=KEY, **proxy)
        assert done.returncode == 0, done.stderr
        assert answers(home)["apiKey"] == "practice-needs-no-key"

    def test_other_answers_can(self, home: Path) -> None:
        """A short life of sessions is tried as well as any."""
        marketplace(home, "install", "OpenAI", "--trial", "--set", "sessionTtl=5")
        assert answers(home)["sessionTtl"] == 5

    def test_it_is_what_if_missing_takes_when_nobody_can_be_asked(self, home: Path) -> None:
        """And it leaves alone what is installed."""
        first = marketplace(home, "install", "OpenAI", "--if-missing")
        assert "practice model" in first.stdout
        assert "has no answer" in first.stderr
        assert "Taking the trial." in first.stderr
        again = marketplace(home, "install", "OpenAI", "--if-missing", OPENAI_API_KEY=KEY)
        assert (again.returncode, again.stdout) == (0, "")
        assert "To take OPENAI_API_KEY instead, run: marketplace install OpenAI" in again.stderr
        assert answers(home)["model"] == "practice-model"

    def test_a_key_in_the_environment_goes_before_it(self, home: Path, upstream: FakeUpstream) -> None:
        """A wrong key is told; it does not quietly become a trial."""
        options = ("--if-missing", "--set", f"baseUrl={upstream.url}")
        done = marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY="sk-wrong")
        assert done.returncode == 1
        assert not home.exists()


class TestOtherCommands:
    def test_list_shows_what_is_on_offer(self, home: Path) -> None:
        """And what of it is installed."""
        line = "OpenAI 1.0.0  ChatGPT conversations behind three REST calls"
        assert marketplace(home, "list").stdout == f"{line}\n"
        marketplace(home, "install", "OpenAI", "--trial")
        assert marketplace(home, "list").stdout == f"{line}  (installed, practice model)\n"

    def test_uninstall_forgets(self, home: Path) -> None:
        """A second time it says so."""
        marketplace(home, "install", "OpenAI", "--trial")
        done = marketplace(home, "uninstall", "OpenAI")
        assert done.returncode == 0
        assert done.stdout.startswith("OpenAI is uninstalled.")
        assert marketplace(home, "services").stdout == ""
        assert "within two seconds" in done.stdout
        again = marketplace(home / "elsewhere", "uninstall", "OpenAI")
        assert not (home / "elsewhere").exists()
        assert (again.returncode, again.stderr) == (1, "marketplace: OpenAI is not installed.\n")

    def test_a_file_that_others_can_read_stops_every_command(self, home: Path) -> None:
        """None of them works with secrets that are public."""
        marketplace(home, "install", "OpenAI", "--trial")
        (home / "installs.json").chmod(0o644)
        for command in (("services",), ("list",), ("serve", "--port", "0"), ("uninstall", "OpenAI")):
            done = marketplace(home, *command)
            assert done.returncode == 1
            assert "chmod 600" in done.stderr

    def test_help_is_light(self, home: Path) -> None:
        """Showing it imports no server, no client and no database library."""
        program = (
            "import sys; from marketplace.cli import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: pass\n"
            "print(sorted({'litestar', 'openai', 'sqlalchemy', 'uvicorn', 'plugins'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment(home), check=True
        )
        assert "serve" in done.stdout
        assert done.stdout.splitlines()[-1] == "[]"
