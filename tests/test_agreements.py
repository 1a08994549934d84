"""The promises between files: who imports whom, what is public, and that the README is true."""

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from marketplace.address import DEFAULT_URL
from marketplace.cli import main
from marketplace.manifest import read_manifest
from service.errors import TABLE
from service.settings import Settings, read_settings
from tests.host import marketplace, serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROOMS = ("marketplace", "service", "plugins")
MODULES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# Besides itself and what is installed, a room may import only these.
MAY_IMPORT = {"marketplace": set(), "service": {"marketplace"}, "plugins": {"marketplace"}}


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their package"
            assert node.module
            yield node.module


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


class TestImports:
    @pytest.mark.parametrize("path", MODULES, ids=str)
    def test_rooms_know_only_whom_they_may(self, path: Path) -> None:
        """The marketplace knows neither host nor plugins, which do not know each other."""
        room = path.parts[0]
        known = {name.split(".")[0] for name in imports(path)} & set(ROOMS)
        assert known <= MAY_IMPORT[room] | {room}

    @pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] == "plugins"], ids=str)
    def test_plugins_know_the_public_interface_and_themselves(self, path: Path) -> None:
        """What ours needs, a stranger's can have."""
        for name in imports(path):
            if name.split(".")[0] == "marketplace":
                assert name == "marketplace"
            if name.split(".")[0] == "plugins":
                assert name.split(".")[1] == path.parts[1]

    def test_one_module_knows_openai(self) -> None:
        """The package is used in one place."""
        knowing = [str(path) for path in MODULES if "openai" in set(imports(path))]
        assert knowing == ["plugins/openai_chat/completions.py"]

    def test_the_numbers_of_http_are_in_one_place(self) -> None:
        """Neither the shop nor the rest of the host says 404."""
        statuses = {row.status for row in TABLE.values()}
        for path in MODULES:
            if path.parts[0] == "plugins" or path == Path("service/errors.py"):
                continue
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.Constant) and type(node.value) is int:
                    assert node.value not in statuses, f"{path}:{node.lineno}"


class TestPublicNames:
    @pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__main__.py"], ids=str)
    def test_public_means_all(self, path: Path) -> None:
        """Every public name is in `__all__`, exists, and has a docstring of its own."""
        module = importlib.import_module(dotted(path))
        listed = set(getattr(module, "__all__", []))
        for name in listed:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{name} has no docstring"
        for name, value in vars(module).items():
            is_ours = getattr(value, "__module__", None) == module.__name__
            if is_ours and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                assert name in listed, f"{name} is public, but not in __all__"


class TestTests:
    @pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda p: p.name)
    def test_a_test_says_what_it_promises(self, path: Path) -> None:
        """Each has a docstring."""
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno}"


class TestReadme:
    def test_its_three_calls_answer_as_it_says(self, tmp_path: Path) -> None:
        """Run in a shell against a host with the practice model."""
        calls = next(block for block in blocks("sh") if "curl" in block)
        expected = blocks("json")[0].splitlines()
        marketplace(tmp_path, "install", "OpenAI", "--trial")
        with serving(tmp_path) as host:
            lines = calls.replace("http://127.0.0.1:8080", host.url)
            done = subprocess.run(["sh", "-ec", lines], capture_output=True, text=True, check=True)
        assert [anonymous(line) for line in done.stdout.splitlines()] == [
            anonymous(line) for line in expected
        ]

    def test_its_calls_are_those_the_host_prints(self) -> None:
        """A newcomer sees the same three lines in both."""
        examples = read_manifest().product("OpenAI").examples_at(DEFAULT_URL)
        assert next(block for block in blocks("sh") if "curl" in block).splitlines() == examples

    def test_its_commands_exist(self) -> None:
        """Each `marketplace` command of it is parsed by the real one."""
        lines = [line for block in blocks("sh") for line in block.splitlines()]
        commands = [shlex.split(line)[1:] for line in lines if line.startswith("marketplace ")]
        assert len(commands) > 6
        for name, *arguments in commands:
            context = click.Context(main)
            command = main.get_command(context, name)
            assert command, name
            command.make_context(name, arguments, parent=context)

    def test_its_make_targets_exist(self) -> None:
        """Each is a target of the Makefile."""
        targets = re.findall(r"^make (\w+)$", "\n".join(blocks("sh")), re.MULTILINE)
        assert {"run", "test", "lint", "bench", "reliability"} <= set(targets)
        for target in targets:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target

    def test_its_items_are_those_of_the_manifest(self) -> None:
        """Names, variables and defaults."""
        rows = {row[0].strip("`"): row for row in table("item")}
        product = read_manifest().product("OpenAI")
        assert list(rows) == [item.name for item in product.configuration]
        for item in product.configuration:
            assert rows[item.name][1] == (f"`{item.env}`" if item.env else "")
            assert rows[item.name][2] == (f"`{item.default}`" if item.default is not None else "")

    def test_its_variables_are_those_of_the_settings(self) -> None:
        """Each variable of the host is in the table, and no other."""
        documented = set(re.findall(r"MARKETPLACE_\w+", inspect.getdoc(Settings) or ""))
        rows = {row[0].strip("`"): row[1].strip("`") for row in table("variable")}
        theirs = {"MARKETPLACE_MANIFEST", "MARKETPLACE_PLUGINS", "MARKETPLACE_URL"}
        assert rows.keys() == documented | theirs
        assert rows["MARKETPLACE_URL"] == DEFAULT_URL
        defaults = read_settings({})
        assert rows["MARKETPLACE_CACHE_URL"] == defaults.cache_url
        assert rows["MARKETPLACE_CACHE_PREFIX"] == defaults.cache_prefix
        assert rows["MARKETPLACE_CACHE_LIMIT"] == str(defaults.cache_limit)
        assert rows["MARKETPLACE_MAX_BODY"] == str(defaults.max_body)
        assert rows["MARKETPLACE_BODY_TIMEOUT"] == str(defaults.body_timeout)

    def test_its_errors_are_those_of_the_table(self) -> None:
        """Every status and every code that the host can answer is documented, and no other."""
        rows = table("status")
        documented = {
            (status, code) for row in rows for status in numbers(row[0]) for code in numbers(row[1])
        }
        possible = {(row.status, row.code) for row in TABLE.values()}
        assert possible <= documented
        assert {status for status, _ in documented} == {status for status, _ in possible}
        assert {code for _, code in documented} == {code for _, code in possible}

    def test_its_map_shows_every_module(self) -> None:
        """Each path of it exists, and nothing is missing from it."""
        shown = {row[0].strip("*`") for row in table("path")}
        for path in shown:
            assert (ROOT / path).exists(), path
        modules = {str(path) for path in MODULES if not path.stem.startswith("__")}
        assert modules <= shown


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def table(first: str) -> list[list[str]]:
    """Return the rows of the README's table whose first column is headed ``first``."""
    lines = README.partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def anonymous(line: str) -> str:
    return re.sub(r"[0-9a-f-]{36}", "ID", line)


def test_the_manifest_names_modules_that_are_there() -> None:
    """Every product on offer has a plugin that can be found without importing it."""
    for product in read_manifest().products:
        assert (ROOT / product.plugin.replace(".", "/")).is_dir()
        assert json.dumps(product.defaults())
