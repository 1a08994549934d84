"""`marketplace uninstall`: what remains is told, and dropped only on request."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from service.database import DRIVERS
from tests.facilities import DATABASES, database_url
from tests.host import COMMAND, Host, environment, install, marketplace, serving
from tests.terminal import Terminal
from tests.upstream import KEY, FakeUpstream

UNREACHABLE = "postgresql://postgres@127.0.0.1:9/none"


def installed(home: Path) -> list[str]:
    stored = json.loads((home / "installs.json").read_text())
    return [install["product"] for install in stored["installs"]]


def tables(url: str) -> set[str]:
    engine = create_engine(make_url(url).set(drivername=DRIVERS[make_url(url).drivername].name))
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def talk(home: Path, **more: str) -> None:
    """Store two sessions, one of them with a turn, in the database; and a third in the cache."""
    marketplace(home, "install", "OpenAI", "--trial")
    with serving(home, **more) as host:
        host.create_session(persistInDB=True)
        host.send(host.create_session(persistInDB=True), "Hi")
        host.send(host.create_session(), "Hi")


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, not to be changed, in which `talk` has happened."""
    folder = tmp_path_factory.mktemp("talked") / "home"
    talk(folder)
    return folder


@pytest.fixture
def used(talked: Path, home: Path) -> Path:
    """A home of the test's own in which `talk` has happened."""
    return Path(shutil.copytree(talked, home))


@pytest.mark.parametrize("backend", DATABASES)
def test_what_remains_is_told_and_then_dropped(backend: str, home: Path, tmp_path: Path) -> None:
    """So many sessions, so many messages, and where; without asking for more, it is kept."""
    with database_url(backend, tmp_path) as url:
        more = {"MARKETPLACE_DATABASE_URL": url}
        talk(home, **more)
        kept = marketplace(home, "uninstall", "OpenAI", **more)
        assert kept.returncode == 0
        assert kept.stdout.startswith("OpenAI is uninstalled.")
        assert "  2 sessions in the table OpenAISession of " in kept.stdout
        assert "  2 messages in the table OpenAIMessage of " in kept.stdout
        assert "What it keeps in the cache expires by itself." in kept.stdout
        assert tables(url) >= {"OpenAISession", "OpenAIMessage"}
        assert installed(home) == []
        marketplace(home, "install", "OpenAI", "--trial")
        dropped = marketplace(home, "uninstall", "OpenAI", "--drop-data", "--yes", "--json", **more)
        found = json.loads(dropped.stdout)
        assert (found["product"], found["dropped"]) == ("OpenAI", True)
        assert [line.split()[:2] for line in found["stored"]] == [["2", "sessions"], ["2", "messages"]]
        assert not tables(url) & {"OpenAISession", "OpenAIMessage"}
        assert installed(home) == []


def test_nothing_stored_makes_no_database(home: Path) -> None:
    """Looking for what remains leaves nothing behind either."""
    marketplace(home, "install", "OpenAI", "--trial")
    done = marketplace(home, "uninstall", "OpenAI")
    assert "It has stored nothing in the database." in done.stdout
    assert not (home / "marketplace.db").exists()
    marketplace(home, "install", "OpenAI", "--trial")
    again = marketplace(home, "uninstall", "OpenAI", "--drop-data")
    assert again.returncode == 0, again.stderr
    assert not (home / "marketplace.db").exists()


def test_a_key_that_is_not_set_here_does_not_matter(home: Path, upstream: FakeUpstream) -> None:
    """What is stored can be counted without it."""
    install(home, upstream.url, KEY)
    done = marketplace(home, "uninstall", "OpenAI")
    assert (done.returncode, done.stderr) == (0, "")
    assert "It has stored nothing in the database." in done.stdout


class TestUnreachable:
    def test_it_is_uninstalled_all_the_same(self, home: Path) -> None:
        """What remains could not be found out, as is said."""
        marketplace(home, "install", "OpenAI", "--trial")
        done = marketplace(home, "uninstall", "OpenAI", MARKETPLACE_DATABASE_URL=UNREACHABLE)
        assert done.returncode == 0
        assert "could not be found out: The database cannot be used." in done.stdout
        assert installed(home) == []
        marketplace(home, "install", "OpenAI", "--trial")
        more = {"MARKETPLACE_DATABASE_URL": UNREACHABLE}
        told = json.loads(marketplace(home, "uninstall", "OpenAI", "--json", **more).stdout)
        assert told == {"product": "OpenAI", "stored": None, "dropped": False}

    @pytest.mark.parametrize("setting", [UNREACHABLE, "nonsense"])
    def test_nothing_is_dropped_and_nothing_changes(self, home: Path, setting: str) -> None:
        """The data cannot be dropped, so the install is kept."""
        marketplace(home, "install", "OpenAI", "--trial")
        before = (home / "installs.json").read_bytes()
        more = {"MARKETPLACE_DATABASE_URL": setting}
        done = marketplace(home, "uninstall", "OpenAI", "--drop-data", "--yes", **more)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Nothing has changed." in done.stderr
        assert (home / "installs.json").read_bytes() == before

    def test_a_table_of_somebody_else_is_never_dropped(self, home: Path) -> None:
        """It is told apart by its columns."""
        marketplace(home, "install", "OpenAI", "--trial")
        engine = create_engine(f"sqlite:///{home}/marketplace.db")
        with engine.begin() as connection:
            connection.execute(text('CREATE TABLE "OpenAISession" (id INTEGER)'))
        engine.dispose()
        done = marketplace(home, "uninstall", "OpenAI", "--drop-data", "--yes")
        assert done.returncode == 1
        assert "another table named OpenAISession" in done.stderr
        assert tables(f"sqlite:///{home}/marketplace.db") == {"OpenAISession"}
        assert installed(home) == ["OpenAI"]

    def test_a_drop_that_fails_leaves_it_installed(self, home: Path, tmp_path: Path) -> None:
        """The install is put back, so that the command can be given again."""
        with database_url("postgresql", tmp_path) as url:
            more = {"MARKETPLACE_DATABASE_URL": url}
            talk(home, **more)
            engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
            with engine.connect() as connection:  # somebody else reads it, and does not end
                connection.execute(text('SELECT * FROM "OpenAIMessage"'))
                done = marketplace(home, "uninstall", "OpenAI", "--drop-data", "--yes", **more)
            engine.dispose()
            assert done.returncode == 1
            assert "It stays installed." in done.stderr
            assert installed(home) == ["OpenAI"]
            assert tables(url) >= {"OpenAISession", "OpenAIMessage"}


class TestAsking:
    def test_without_a_terminal_it_has_to_be_said(self, used: Path) -> None:
        """A script that drops data says so."""
        before = (used / "installs.json").read_bytes()
        done = marketplace(used, "uninstall", "OpenAI", "--drop-data")
        assert (done.returncode, done.stdout) == (2, "")
        assert "Add --yes" in done.stderr
        assert (used / "installs.json").read_bytes() == before

    @pytest.mark.parametrize("answer", ["y", "n", ""])
    def test_at_a_terminal_it_is_asked(self, used: Path, answer: str) -> None:
        """Enter alone drops nothing and uninstalls nothing."""
        terminal = Terminal(used, "uninstall", "OpenAI", "--drop-data")
        terminal.see("2 sessions in the table OpenAISession of ")
        terminal.see(r"Delete that for good\? \[y/N\]: ")
        terminal.type(answer)
        assert terminal.end() == 0
        is_dropped = answer == "y"
        assert installed(used) == ([] if is_dropped else ["OpenAI"])
        assert bool(tables(f"sqlite:///{used}/marketplace.db")) is not is_dropped
        assert ("stays installed, and its data is kept" in terminal.seen) is not is_dropped

    def test_ctrl_c_drops_nothing(self, used: Path) -> None:
        """With the exit code of an interrupt."""
        terminal = Terminal(used, "uninstall", "OpenAI", "--drop-data")
        terminal.see(r"Delete that for good\? \[y/N\]: ")
        terminal.press("c")
        assert terminal.end() == 130
        assert installed(used) == ["OpenAI"]


class TestRunningHost:
    def test_a_host_that_does_not_let_go_is_told(self, used: Path, host: Host) -> None:
        """Here it is one of another home: it goes on, and the data of this one is dropped."""
        more = {"MARKETPLACE_URL": host.url}
        done = marketplace(used, "uninstall", "OpenAI", "--drop-data", "--yes", **more)
        assert done.returncode == 0
        assert f"The host at {host.url} still serves OpenAI." in done.stderr
        assert tables(f"sqlite:///{used}/marketplace.db") == set()

    def test_ctrl_c_while_it_is_waited_for_leaves_it_installed(self, used: Path, host: Host) -> None:
        """Nothing is half done."""
        with subprocess.Popen(
            [*COMMAND, "uninstall", "OpenAI", "--drop-data", "--yes"],
            env=environment(used, MARKETPLACE_URL=host.url),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 20
            while installed(used) and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=10)
        assert (process.returncode, told) == (130, "\nAborted.\n")
        assert installed(used) == ["OpenAI"]
        assert tables(f"sqlite:///{used}/marketplace.db") == {"OpenAISession", "OpenAIMessage"}


def test_a_plugin_that_is_gone_can_be_uninstalled(home: Path, tmp_path: Path) -> None:
    """What it stored cannot be found out without it."""
    marketplace(home, "install", "OpenAI", "--trial")
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(Path("manifest.yaml").read_text().replace("plugins.openai_chat", "no_such_plugin"))
    more = {"MARKETPLACE_MANIFEST": str(manifest)}
    refused = marketplace(home, "uninstall", "OpenAI", "--drop-data", "--yes", **more)
    assert refused.returncode == 1
    done = marketplace(home, "uninstall", "OpenAI", **more)
    assert done.returncode == 0
    assert "could not be found out: The plugin no_such_plugin cannot be loaded" in done.stdout
    assert installed(home) == []
