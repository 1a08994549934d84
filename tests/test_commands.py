"""What all commands have in common: help with examples, JSON, colour at a terminal only, completion."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from marketplace.cli import main
from marketplace.manifest import read_manifest
from tests.host import Host, environment, marketplace
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent
NAMES = sorted(main.list_commands(click.Context(main)))
ESCAPE = "\x1b["


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found
    return found


class TestHelp:
    @pytest.mark.parametrize("name", NAMES)
    def test_it_ends_with_examples_that_work(self, name: str) -> None:
        """Each is parsed by the command that it is an example of."""
        epilog = command(name).epilog or ""
        assert epilog.startswith("Examples:\n\n"), name
        examples = re.findall(rf"marketplace {name}\b([^|>\n)]*)", epilog)
        assert examples
        for example in examples:
            context = click.Context(main)
            command(name).make_context(name, shlex.split(example.strip()), parent=context)

    @pytest.mark.parametrize("name", NAMES)
    def test_every_option_says_what_it_does(self, name: str) -> None:
        """And so does the command."""
        assert command(name).get_short_help_str(200)
        for parameter in command(name).params:
            assert not isinstance(parameter, click.Option) or parameter.help, parameter.name

    def test_the_commands_of_the_documents_are_parsed(self) -> None:
        """Those that a script is told to run."""
        text = (ROOT / "docs" / "commands.md").read_text()
        blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        lines = re.findall(r"marketplace (\w+)([^|\n)]*)", blocks)
        assert len(lines) >= 4
        for name, arguments in lines:
            context = click.Context(main)
            command(name).make_context(name, shlex.split(arguments.strip()), parent=context)

    @pytest.mark.parametrize("arguments", [["--help"], ["list"], ["show", "OpenAI"], ["services"]])
    def test_what_only_looks_is_light(self, home: Path, arguments: list[str]) -> None:
        """No server, no client of the upstream, no database library and no plugin is imported for it."""
        program = (
            f"import sys; from marketplace.cli import main\ntry: main({arguments!r})\n"
            "except SystemExit: pass\n"
            "heavy = {'litestar', 'openai', 'sqlalchemy', 'uvicorn', 'plugins', 'service.app', 'aiohttp'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment(home), check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


class TestJson:
    def test_list(self, home: Path) -> None:
        """What is on offer, and what of it is installed."""
        marketplace(home, "install", "OpenAI", "--trial")
        (entry,) = json.loads(marketplace(home, "list", "--json").stdout)
        assert entry.pop("package").startswith("chat-marketplace ")
        assert entry == {
            "name": "OpenAI",
            "version": "1.0.0",
            "section": "API Services",
            "summary": "ChatGPT conversations behind three REST calls",
            "installed": "1.0.0",
            "notice": "practice model",
        }

    def test_show(self, home: Path) -> None:
        """The whole product, as its manifest has it."""
        shown = json.loads(marketplace(home, "show", "OpenAI", "--json").stdout)
        assert shown["installed"] is None
        product = read_manifest().product("OpenAI")
        assert [item["name"] for item in shown["configuration"]] == [i.name for i in product.configuration]
        assert [method["name"] for method in shown["methods"]] == [m.name for m in product.methods]
        assert shown["stores"]
        assert shown["talksTo"]

    def test_install(self, home: Path) -> None:
        """Whether anything changed is told; what is said on the way is not on standard output."""
        done = marketplace(home, "install", "OpenAI", "--trial", "--json")
        assert json.loads(done.stdout) == {
            "product": "OpenAI",
            "version": "1.0.0",
            "notice": "practice model",
            "changed": True,
            "path": "/api/services/OpenAI",
        }
        again = marketplace(home, "install", "OpenAI", "--if-missing", "--json")
        assert json.loads(again.stdout)["changed"] is False

    def test_services_that_do_not_run(self, home: Path) -> None:
        """With the reason; and nothing installed is an empty list."""
        assert json.loads(marketplace(home, "services", "--json").stdout) == []
        marketplace(home, "install", "OpenAI", "--trial")
        (row,) = json.loads(marketplace(home, "services", "--json").stdout)
        assert (row["state"], row["installed"]) == ("not running", True)
        assert row["reason"].startswith("No host answers at ")


class TestShow:
    def test_it_is_the_product_page(self, home: Path) -> None:
        """All that is asked, offered, stored and talked to, before anything is installed."""
        shown = marketplace(home, "show", "OpenAI").stdout
        product = read_manifest().product("OpenAI")
        for item in product.configuration:
            assert f"  {item.name}  {item.label} ({item.type.value}" in shown
            assert item.hint in shown
        for method in product.methods:
            assert f"  {method.name}  {method.verb} /api/services/OpenAI{method.route}  " in shown
        for told in (product.summary, product.description, product.documentation, "Installed:  no"):
            assert str(told) in shown
        for told in (
            "host's rights",
            "keys included",
            "chat-marketplace",
            "OpenAI --trial",
            "api.openai.com",
        ):
            assert told in shown
        assert "database table OpenAISession" in shown
        assert not home.exists()

    def test_it_says_what_is_installed(self, home: Path) -> None:
        """A trial by its name."""
        marketplace(home, "install", "OpenAI", "--trial")
        assert "Installed:  practice model\n" in marketplace(home, "show", "OpenAI").stdout

    def test_an_unknown_product_exits_1(self, home: Path) -> None:
        """With those that are on offer."""
        done = marketplace(home, "show", "ChatGPT")
        assert (done.returncode, done.stdout) == (1, "")
        assert "On offer: OpenAI." in done.stderr


class TestRights:
    def test_they_are_told_before_anything_is_asked(self, home: Path) -> None:
        """And which package the plugin comes from."""
        told = marketplace(home, "install", "OpenAI", "--trial").stderr
        assert told.startswith("OpenAI comes from the package chat-marketplace ")
        assert "it can read and change whatever the host can, keys included." in told


class TestColour:
    @pytest.mark.parametrize("arguments", [["list"], ["show", "OpenAI"], ["list", "--json"], ["--help"]])
    def test_it_is_for_terminals(self, home: Path, arguments: list[str]) -> None:
        """Piped output has none, and with NO_COLOR a terminal has none either."""
        assert ESCAPE not in marketplace(home, *arguments).stdout
        coloured = Terminal(home, *arguments)
        assert coloured.end() == 0
        assert ESCAPE in coloured.seen
        plain = Terminal(home, *arguments, NO_COLOR="1")
        assert plain.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plain.seen)

    def test_what_is_piped_has_no_tables(self, home: Path) -> None:
        """A line each, for grep and awk."""
        marketplace(home, "install", "OpenAI", "--trial")
        assert marketplace(home, "services").stdout == "OpenAI 1.0.0  not running  (practice model)\n"
        terminal = Terminal(home, "services")
        terminal.end()
        assert "Service" in terminal.seen
        assert "not running" in terminal.seen


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_a_script_for_each_shell(self, home: Path, shell: str) -> None:
        """It is click's own, for our command."""
        done = marketplace(home, "completion", shell)
        assert done.returncode == 0
        assert f"_MARKETPLACE_COMPLETE={shell}_complete" in done.stdout

    def test_another_shell_exits_2(self, home: Path) -> None:
        """With those that there are."""
        done = marketplace(home, "completion", "tcsh")
        assert done.returncode == 2
        assert "fish" in done.stderr

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("sho", ["show"]),
            ("show Op", ["OpenAI"]),
            ("install open", ["OpenAI"]),
            ("configure ", ["OpenAI"]),
            ("uninstall ", ["OpenAI"]),
            ("install OpenAI --set mo", ["model="]),
            ("install OpenAI --set a", []),
            ("invoke ", ["OpenAI"]),
            ("invoke OpenAI s", ["sendMessage"]),
            ("invoke OpenAI createSession ", ["aiModel=", "persistInDB="]),
            ("completion ", ["bash", "zsh", "fish"]),
        ],
    )
    def test_names_are_completed(self, home: Path, host: Host, typed: str, offered: list[str]) -> None:
        """Products from the catalogue, services and methods from the running host."""
        marketplace(home, "install", "OpenAI", "--trial")
        assert self._completed(home, typed, MARKETPLACE_URL=host.url) == offered

    def test_without_a_host_nothing_is_offered_and_nothing_said(self, home: Path) -> None:
        """Whoever types is not to be disturbed."""
        assert self._completed(home, "invoke ") == []
        assert self._completed(home, "invoke ", MARKETPLACE_URL="nonsense") == []
        assert self._completed(home, "show ", MARKETPLACE_MANIFEST="/nowhere") == []

    @staticmethod
    def _completed(home: Path, typed: str, **more: str) -> list[str]:
        words = ["marketplace", *typed.split(" ")]
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        done = marketplace(home, _MARKETPLACE_COMPLETE="bash_complete", **asked, **more)
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.split()]
