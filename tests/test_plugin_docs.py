"""docs/plugins.md: its plugin works as it is printed, and it leaves out nothing that is public."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import marketplace
from marketplace import Cache, Database, Host, Service, ServiceError, errors, hookspecs, testing
from marketplace.interfaces import CLOSE_TIMEOUT
from marketplace.manifest import ItemType
from service.errors import TABLE
from service.services import START_TIMEOUT
from tests.copies import Copy
from tests.host import environment
from tests.host import marketplace as command

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
"""The files it prints, each as its path and its content."""

pytestmark = pytest.mark.anyio


def documented() -> set[str]:
    """Return all names that it explains: those in the first column of a table, and in the text."""
    return set(
        re.findall(r"`([A-Za-z_.]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
    )


def rows(heading: str) -> dict[str, list[str]]:
    """Return a table of it, by its first column."""
    lines = TEXT.partition(f"\n| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: row[1:] for row in cells for name in re.findall(r"`(\w+)`", row[0])}


def public(kind: type) -> set[str]:
    """Return what a class has for others, besides what it inherits."""
    names = {*vars(kind), *getattr(kind, "__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


class TestPlugin:
    async def test_the_whole_plugin_works_as_it_is_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In at most 25 lines; the README shows the same."""
        _, plugin = BLOCKS[0]
        assert len(plugin.splitlines()) <= 25
        assert f"```python\n{plugin}```" in (ROOT / "README.md").read_text()
        (tmp_path / "hello_as_printed.py").write_text(plugin)
        monkeypatch.syspath_prepend(str(tmp_path))
        hello = importlib.import_module("hello_as_printed").Hello
        async with testing.host(hello, {"greeting": "Hello"}) as running:
            assert await running.invoke("greet", {"name": "Ada"}) == {"text": "Hello, Ada."}

    def test_the_files_it_prints_make_a_package(self, tmp_path: Path) -> None:
        """Installed and tested as it says, the product is on offer."""
        folder, copy = tmp_path / "package", Copy(tmp_path / "copy")
        for path, content in BLOCKS:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        copy.install(folder, "--editable")
        tests = [copy.python, "-m", "pytest", "-q"]
        done = subprocess.run(
            tests, cwd=folder, env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        listed = command(tmp_path / "home", "list", command=copy.command)
        assert ("Hello" in listed.stdout, listed.stderr) == (True, "")
        installed = command(tmp_path / "home", "install", "Hello", "--no-input", command=copy.command)
        assert installed.returncode == 0, installed.stderr


class TestPromises:
    def test_every_public_name_is_there(self) -> None:
        """What a plugin may import, what its tests may, and the hooks."""
        hooks = set(hookspecs.__all__) - {"hookspec"}
        assert documented() >= {*marketplace.__all__, *testing.__all__, *hooks}

    @pytest.mark.parametrize("kind", [Service, Cache, Database])
    def test_every_method_has_its_promise(self, kind: type) -> None:
        """Those that a service has, and those of what it is lent; no others."""
        told = rows(f"of `{kind.__name__}`").keys() - {"configuration", "host"}
        assert told == public(kind)

    def test_the_types_of_items_are_those_there_are(self) -> None:
        """Each with what an answer is."""
        assert rows("type").keys() == set(ItemType)

    def test_its_times_are_those_of_the_host(self) -> None:
        """How long starting and closing may take."""
        told = rows("of `Service`")
        assert f"within {START_TIMEOUT} seconds" in told["start"][0]
        assert f"within {CLOSE_TIMEOUT} seconds" in told["close"][0]

    def test_the_facilities_are_those_of_the_host(self) -> None:
        """Each by its name."""
        assert {f"host.{name}" for name in public(Host)} <= documented()

    def test_the_hooks_are_those_there_are(self) -> None:
        """No more and no less."""
        assert rows("hook").keys() == set(hookspecs.__all__) - {"hookspec", "hookimpl"}

    def test_the_errors_are_answered_as_it_says(self) -> None:
        """Each that a plugin may raise, with its status."""
        told = {name: row[0] for name, row in rows("error").items()}
        kinds = [getattr(marketplace, name) for name in marketplace.__all__]
        public_errors = {k for k in kinds if isinstance(k, type) and issubclass(k, ServiceError)}
        assert told == {
            kind.__name__: str(TABLE[kind].status) for kind in public_errors - {errors.ServiceError}
        }


def test_a_plugin_that_is_only_looked_for_imports_nothing_heavy() -> None:
    """The public names of plugin and tests load neither server nor database library."""
    program = (
        "import sys, marketplace, marketplace.testing\n"
        "print(sorted({'litestar', 'sqlalchemy', 'service', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
