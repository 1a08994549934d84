"""Configuration items of every type, as a product asks them and a service gets them."""

import json
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.host import COMMAND, environment, marketplace, without_rights

PLUGIN = """
from typing import Literal

import msgspec

from marketplace import Doubt, InvalidArgument, Service, hookimpl


class Configuration(msgspec.Struct, kw_only=True):
    token: str
    greeting: str = "Hi"
    loud: bool = False
    most: int = 10
    size: Literal["small", "large"] | None = None
    motto: str = ""


class Poster(Service[Configuration]):
    name = "Poster"
    Configuration = Configuration

    @classmethod
    async def check(cls, configuration):
        if configuration.most == 666:
            raise RuntimeError(configuration.token)
        if configuration.most == 13:
            return [Doubt("13 brings bad luck", parameter="most"), Doubt("it is Friday")]

    def router(self): ...


@hookimpl
def register_services():
    return [Poster]
"""

MANIFEST = """
products:
  - name: Poster
    version: "1"
    section: Art
    summary: Prints posters
    plugin: poster
    configuration:
      - {name: token, label: Token, type: SECRET, required: true, env: POSTER_TOKEN}
      - {name: greeting, label: Greeting, type: STRING, default: Hi, env: POSTER_GREETING}
      - {name: loud, label: Loud, type: BOOL, default: no, env: POSTER_LOUD}
      - {name: most, label: Most, type: INT, default: 10, env: POSTER_MOST}
      - {name: size, label: Size, type: CHOICE, options: [small, large], env: POSTER_SIZE}
      - {name: motto, label: Motto, type: TEXT, env: POSTER_MOTTO}
"""


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """What the environment has to say for the product to be on offer."""
    (tmp_path / "poster.py").write_text(PLUGIN)
    manifest = tmp_path / "poster.yaml"
    manifest.write_text(MANIFEST)
    return {
        "PYTHONPATH": str(tmp_path),
        "MARKETPLACE_MANIFEST": str(manifest),
        "POSTER_TOKEN": "t-1",
    }


def answers(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "installs.json").read_text())["installs"][0]["answers"]
    return found


class TestScript:
    def test_options_answer_items_of_every_type(
        self, home: Path, shop: dict[str, str], tmp_path: Path
    ) -> None:
        """A text of several lines is read from a file."""
        (tmp_path / "motto.txt").write_text("One.\n\nTwo.\n", encoding="utf-8")
        given = ["greeting=Hello you", "loud=Yes", "most=-3", "size=LARGE", f"motto=@{tmp_path}/motto.txt"]
        options = [word for pair in given for word in ("--set", pair)]
        done = marketplace(home, "install", "Poster", *options, **shop)
        assert done.returncode == 0, done.stderr
        assert answers(home) == {
            "token": {"$env": "POSTER_TOKEN"},
            "greeting": "Hello you",
            "loud": True,
            "most": -3,
            "size": "large",
            "motto": "One.\n\nTwo.",
        }

    def test_variables_and_defaults_do_too(self, home: Path, shop: dict[str, str]) -> None:
        """What has neither is left out."""
        done = marketplace(
            home, "install", "Poster", **shop, POSTER_LOUD="true", POSTER_MOTTO="@one\ntwo", POSTER_MOST=" "
        )
        assert done.returncode == 0, done.stderr
        expected = {"greeting": "Hi", "loud": True, "most": 10, "motto": "@one\ntwo"}
        assert answers(home) == {"token": {"$env": "POSTER_TOKEN"}, **expected}

    @pytest.mark.parametrize(
        ("variable", "text", "told"),
        [
            ("LOUD", "1", "Loud (from POSTER_LOUD): expected yes or no, not '1'."),
            ("MOST", "ten", "Most (from POSTER_MOST): expected a whole number, not 'ten'."),
            ("SIZE", "huge", "Size (from POSTER_SIZE): expected one of small, large, not 'huge'."),
        ],
    )
    def test_a_variable_that_is_no_answer_is_named(
        self, home: Path, shop: dict[str, str], variable: str, text: str, told: str
    ) -> None:
        """With the ways to change it."""
        done = marketplace(home, "install", "Poster", **shop, **{f"POSTER_{variable}": text})
        name = variable.lower()
        way = f"Change it with --set {name}=VALUE or the environment variable POSTER_{variable}."
        assert (done.returncode, without_rights(done.stderr)) == (1, f"marketplace: {told} {way}\n")
        assert not home.exists()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(None, "cannot be read: No such file or directory"), (b"\xff", "is not UTF-8 text")],
    )
    def test_a_file_that_cannot_be_read_is_told(
        self, home: Path, shop: dict[str, str], tmp_path: Path, content: bytes | None, reason: str
    ) -> None:
        """The call has to be changed: the exit code is 2."""
        file = tmp_path / "motto.txt"
        if content:
            file.write_bytes(content)
        done = marketplace(home, "install", "Poster", "--set", f"motto=@{file}", **shop)
        told = f"marketplace: Motto (motto): the file {file} {reason}.\n"
        assert (done.returncode, without_rights(done.stderr)) == (2, told)

    @pytest.mark.parametrize("name", ["greeting", "motto"])
    def test_what_is_no_unicode_is_refused(self, home: Path, shop: dict[str, str], name: str) -> None:
        """It could not be remembered."""
        done = marketplace(home, "install", "Poster", "--set", f"{name}=a\udcff", **shop)
        assert done.returncode == 1
        assert done.stderr.endswith("text, not 'a\\udcff'.\n")

    def test_a_plugin_that_fails_is_told_without_its_words(self, home: Path, shop: dict[str, str]) -> None:
        """They may quote a secret; it can be installed untried."""
        done = marketplace(home, "install", "Poster", "--set", "most=666", **shop)
        assert done.returncode == 1
        assert without_rights(done.stderr) == (
            "marketplace: Poster could not be tried: its plugin failed with RuntimeError."
            " Add --no-verify to install it all the same.\n"
        )
        assert not home.exists()

    def test_a_doubt_is_a_warning(self, home: Path, shop: dict[str, str]) -> None:
        """The answer stands, and standard output is as ever."""
        done = marketplace(home, "install", "Poster", "--set", "most=13", **shop)
        assert (done.returncode, answers(home)["most"]) == (0, 13)
        assert without_rights(done.stderr) == "Most: 13 brings bad luck.\nPoster: it is Friday.\n"
        assert done.stdout.startswith("Poster 1 is installed.\n")
        untried = marketplace(home, "install", "Poster", "--set", "most=13", "--no-verify", **shop)
        assert (untried.returncode, without_rights(untried.stderr)) == (0, "")


class TestTerminal:
    def talk(self, home: Path, shop: dict[str, str], *lines: tuple[str, str], **more: str) -> str:
        """Run the wizard, typing the second of each pair when the first is seen; return what was shown."""
        child: pexpect.spawn[str] = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], "install", "Poster"],
            env=environment(home, **shop, **more),
            encoding="utf-8",
            timeout=10,
        )
        seen = ""
        for expected, answer in lines:
            child.expect_exact(expected)
            seen += f"{child.before}{child.after}"
            child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0, seen
        return f"{seen}{child.before}".replace("\r\n", "\n")

    def test_items_of_every_type_are_asked(self, home: Path, shop: dict[str, str]) -> None:
        """A mistyped answer is asked again; an empty line ends a text of several."""
        seen = self.talk(
            home,
            {**shop, "POSTER_TOKEN": ""},
            ("Token (not shown): ", "t-2"),
            ("Greeting [Hi]: ", "Hello you"),
            ("Loud [no]: ", "loud"),
            ("expected yes or no, not 'loud'.\r\nLoud [no]: ", "y"),
            ("Most [10]: ", ""),
            ("One of small, large.\r\nSize: ", "medium"),
            ("expected one of small, large, not 'medium'.\r\nSize: ", "Small"),
            ("an empty line ends it.\r\nMotto: ", "One,"),
            ("> ", "  two."),
            ("> ", ""),
        )
        assert "t-2" not in seen
        assert answers(home) == {
            "token": "t-2",
            "greeting": "Hello you",
            "loud": True,
            "most": 10,
            "size": "small",
            "motto": "One,\n  two.",
        }

    def test_enter_alone_leaves_out_what_has_no_default(self, home: Path, shop: dict[str, str]) -> None:
        """What has one takes it."""
        prompts = ("Greeting [Hi]: ", "Loud [no]: ", "Most [10]: ", "Size: ", "Motto: ")
        self.talk(home, shop, *((prompt, "") for prompt in prompts))
        token = {"$env": "POSTER_TOKEN"}
        assert answers(home) == {"token": token, "greeting": "Hi", "loud": False, "most": 10}

    def test_a_secret_with_a_default_is_not_shown(self, home: Path, shop: dict[str, str]) -> None:
        """Enter alone takes it, and nothing else is said of it."""
        manifest = Path(shop["MARKETPLACE_MANIFEST"])
        manifest.write_text(MANIFEST.replace("required: true", "default: t-3"))
        prompts = ("Greeting [Hi]: ", "Loud [no]: ", "Most [10]: ", "Size: ", "Motto: ")
        asked = ("Enter alone takes the one there is.\r\nToken (not shown): ", *prompts)
        seen = self.talk(home, {**shop, "POSTER_TOKEN": ""}, *((prompt, "") for prompt in asked))
        assert "t-3" not in seen
        assert answers(home)["token"] == "t-3"

    def test_a_variable_that_is_no_answer_is_told_and_asked(self, home: Path, shop: dict[str, str]) -> None:
        """Its name is told; the others are not asked."""
        variables = {"POSTER_GREETING": "Hi", "POSTER_MOST": "9", "POSTER_SIZE": "small", "POSTER_MOTTO": "x"}
        told = "Loud (from POSTER_LOUD): expected yes or no, not '1'."
        self.talk(home, shop, (told, "yes"), **variables, POSTER_LOUD="1")
        assert answers(home)["loud"] is True

    @pytest.mark.parametrize(("keep", "most"), [("y", 13), ("n", 12)])
    def test_a_doubtful_answer_can_be_kept(
        self, home: Path, shop: dict[str, str], keep: str, most: int
    ) -> None:
        """Or another is asked for; what was told once is not told again."""
        prompts = [("Greeting [Hi]: ", ""), ("Loud [no]: ", ""), ("Most [10]: ", "13"), ("Size: ", "")]
        doubt = "Most: 13 brings bad luck.\r\nKeep it all the same? [y/N]: "
        again = [("Most [10]: ", "13"), (doubt, "n"), ("Most [10]: ", "12")] if keep == "n" else []
        self.talk(home, shop, *prompts, ("Motto: ", ""), (doubt, keep), *again)
        assert answers(home)["most"] == most
