"""A newcomer's first minutes: a fresh checkout, and a wheel installed elsewhere, from nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.host import environment

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git knows, and nothing else."""
    known = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    copy = tmp_path / "checkout"
    for name in filter(None, known.stdout.split("\0")):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody with an empty home, outside any virtual environment."""
    inherited = environment(tmp_path / "unused", HOME=str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    path = os.pathsep.join(
        folder for folder in inherited["PATH"].split(os.pathsep) if Path(folder) != Path(sys.prefix, "bin")
    )
    foreign = ("MARKETPLACE_HOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CI")
    return {name: value for name, value in inherited.items() if name not in foreign} | {"PATH": path}


@contextmanager
def running(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Run a command that serves; yield what it said until then, and the address."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while not (found := re.search(r"^Serving on (http://\S+)$", said, re.MULTILINE)):
                line = process.stdout.readline()
                assert line, said
                said += line
            yield said, found[1]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=30)


def chat(url: str) -> dict[str, object]:
    """Make the three calls, and return the answer to the last."""
    service = f"{url}/api/services/OpenAI"
    with httpx2.Client(trust_env=False) as http:
        session = http.post(f"{service}/session").json()["sessionId"]
        sent = http.post(f"{service}/message", json={"sessionId": session, "message": "Hi"})
        assert sent.status_code == 200
        history: dict[str, object] = http.get(f"{service}/session-messages?sessionId={session}").json()
    return history


def test_make_run_serves_from_a_fresh_checkout(checkout: Path, bare: dict[str, str]) -> None:
    """With an empty home, no terminal and no key it takes the practice model, and says so."""
    with running(["make", "run", "SERVE=--port 0"], checkout, bare) as (said, url):
        assert "OpenAI 1.0.0 is installed (practice model)." in said
        assert chat(url)["aiModel"] == "practice-model"
        assert (checkout / ".marketplace" / "installs.json").exists()
        stamp = (checkout / ".venv" / "ready").stat().st_mtime_ns
    with running(["make", "run", "SERVE=--port 0"], checkout, bare) as (said, url):
        assert "is installed" not in said
        assert chat(url)["persistInDB"] is False
        assert (checkout / ".venv" / "ready").stat().st_mtime_ns == stamp


def test_a_wheel_works_the_same_elsewhere(checkout: Path, bare: dict[str, str], tmp_path: Path) -> None:
    """Its manifest is inside, and nothing of the checkout is needed."""
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(wheels), str(checkout)], check=True)
    (wheel,) = wheels.iterdir()
    venv.create(tmp_path / "empty", with_pip=True)
    binaries = tmp_path / "empty" / "bin"
    lock = shutil.copy(checkout / "requirements.lock", tmp_path)
    pip = [str(binaries / "pip"), "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", lock], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    shutil.rmtree(checkout)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = str(binaries / "marketplace")
    subprocess.run([command, "install", "OpenAI", "--trial"], cwd=elsewhere, env=bare, check=True)
    with running([command, "serve", "--port", "0"], elsewhere, bare) as (_, url):
        assert chat(url)["aiModel"] == "practice-model"
