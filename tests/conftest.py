"""What all tests share."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.facilities import close_all
from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream

SDK = Path(__file__).parent / "sdk"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A fake OpenAI of the test's own."""
    with FakeUpstream().serving() as fake:
        yield fake


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[FakeUpstream]:
    """A fake OpenAI that the module's host talks to."""
    with FakeUpstream().serving() as fake:
        yield fake


@pytest.fixture(scope="module")
def host(shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A running host of the module's own, with OpenAI installed."""
    home = tmp_path_factory.mktemp("home")
    install(home, shared_upstream.url, KEY)
    with serving(home) as running:
        running.http.get("/api/services")  # it is up now, however busy the machine is
        yield running


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client installed from the registry, as its lock file says."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("Node and npm are needed for the official client")
    folder = shutil.copytree(SDK, tmp_path_factory.mktemp("sdk") / "sdk", ignore=lambda *_: {"node_modules"})
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, timeout=300)
    return Path(folder)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder for what is remembered."""
    return tmp_path / "home"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI nothing may be skipped: what is needed there is there."""
    close_all()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        reporter.write_line("Skipped tests count as failures in CI.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
