"""A host as its users know it: the `marketplace` command, run in a folder of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

__all__ = ["COMMAND", "NOWHERE", "Host", "environment", "install", "marketplace", "serving", "without_rights"]

COMMAND = [sys.executable, "-m", "marketplace"]

NOWHERE = "http://127.0.0.1:9"
"""An address at which nobody answers."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this environment without anything that concerns us, with ``home`` and ``more`` set."""
    foreign = ("OPENAI_", "MARKETPLACE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "MARKETPLACE_HOME": str(home), "MARKETPLACE_URL": NOWHERE, **more}


def marketplace(
    home: Path, *arguments: str, command: Sequence[str] = COMMAND, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal."""
    return subprocess.run(
        [*command, *arguments],
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def install(home: Path, url: str, key: str, *options: str, **more: str) -> None:
    """Install OpenAI with the upstream at ``url``."""
    more = {"OPENAI_API_KEY": key, **more}
    done = marketplace(home, "install", "OpenAI", "--set", f"baseUrl={url}", *options, **more)
    assert done.returncode == 0, done.stderr


def without_rights(told: str) -> str:
    """Return what ``install`` told after the line that says whose plugin it is and what it may do."""
    first, _, rest = told.partition("\n")
    assert "runs with the host's rights" in first
    return rest


class Host:
    """A running host."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.http = httpx2.Client(base_url=url, timeout=60, trust_env=False)

    @property
    def service(self) -> str:
        """The address of the OpenAI service."""
        return f"{self.url}/api/services/OpenAI"

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the process and wait for its end."""
        self.process.send_signal(number)
        self.process.wait(30)

    def create_session(self, **arguments: object) -> str:
        """Create a session and return its id."""
        return str(self._post("session", arguments)["sessionId"])

    def send(self, session: str, message: str) -> str:
        """Send a message and return the reply."""
        return str(self._post("message", {"sessionId": session, "message": message})["responseMessage"])

    def history(self, session: str) -> list[tuple[str, str]]:
        """Return the roles and texts of a session's messages."""
        answer = self.http.get("/api/services/OpenAI/session-messages", params={"sessionId": session})
        assert answer.status_code == 200, answer.text
        return [(message["role"], message["content"]) for message in answer.json()["messages"]]

    def _post(self, route: str, arguments: Mapping[str, object]) -> dict[str, object]:
        answer = self.http.post(f"/api/services/OpenAI/{route}", json=arguments)
        assert answer.status_code == 200, answer.text
        body: dict[str, object] = answer.json()
        return body


@contextmanager
def serving(home: Path, *options: str, command: Sequence[str] = COMMAND, **more: str) -> Iterator[Host]:
    """Serve what is installed in ``home`` on a free port until the block ends."""
    log = home / "host.log"
    home.mkdir(exist_ok=True)
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [*command, "serve", "--port", "0", *options],
            env=environment(home, **{"OPENAI_API_KEY": "sk-test-0123456789abcdef", **more}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        started = re.fullmatch(r"Serving on (\S+)\n", process.stdout.readline())
        assert started, log.read_text()
        host = Host(process, started[1], log)
        with host.http:
            yield host
    finally:
        process.terminate()
        process.communicate(timeout=30)
