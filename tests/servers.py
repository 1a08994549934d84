"""Private instances of real servers, for what may not be done to a shared one: clusters and outages."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from service.database import DRIVERS

__all__ = ["SERVERS", "Server", "free_port", "redis_cluster"]


class Server:
    """A server of one's own that can be stopped and started again; ``url`` is how it is reached."""

    def __init__(self, url: str, command: list[str], is_ready: Callable[[], bool], user: str | None) -> None:
        self.url = url
        self._command = command
        self._is_ready = is_ready
        self._user = user

    def start(self) -> None:
        """Start the server and wait until it answers."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet, user=self._user)
        _await(self._is_ready, self._command[0])

    def stop(self) -> None:
        """Stop the server at once, cutting its connections."""
        # PostgreSQL's SIGQUIT is a crash that takes its processes along; they would be in the way of a start.
        self._process.send_signal(signal.SIGQUIT if "postgres" in self._command[0] else signal.SIGKILL)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Let the server hang, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        children = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True)
        for pid in (str(self._process.pid), *children.stdout.split()):
            os.kill(int(pid), number)


def free_port() -> int:
    """Return a port that nobody listens on, and that no connection takes while its server is down.

    Linux takes the ports of connections from 32768 on; the second port of a cluster's node is 10000 above.
    """
    while True:
        port = 12000 + secrets.randbelow(10000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def redis_server(port: int | None = None, *options: str) -> Iterator[Server]:
    """Run a Redis that saves every write, so that a restart loses nothing."""
    port = port or free_port()
    with _folder(None) as folder:
        command = [_found("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", *options]
        with _running(
            Server(f"redis://127.0.0.1:{port}", command, lambda: _answers_redis(port), None)
        ) as server:
            yield server


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """Run a PostgreSQL."""
    port = free_port()
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = f"{binaries[-1] if binaries else ''}{os.pathsep}{os.environ['PATH']}"
    user = _unprivileged("postgres")
    with _folder(user) as folder:
        initdb = [_found("initdb", path), "-D", str(folder), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
        command = [
            _found("postgres", path),
            "-D",
            str(folder),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            str(folder),
        ]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with _running(Server(url, command, lambda: _answers_sql(url), user)) as server:
            yield server


@contextmanager
def mariadb_server() -> Iterator[Server]:
    """Run a MariaDB."""
    port = free_port()
    user = _unprivileged("mysql")
    with _folder(user) as folder:
        data = f"--datadir={folder}"
        install = [
            _found("mariadb-install-db"),
            "--no-defaults",
            data,
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True, user=user, cwd=folder)
        command = [_found("mariadbd"), "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        url = f"mariadb://root@127.0.0.1:{port}/mysql"
        with _running(Server(url, command, lambda: _answers_sql(url), user)) as server:
            yield server


SERVERS: dict[str, Callable[..., AbstractContextManager[Server]]] = {
    "redis": redis_server,
    "postgresql": postgresql_server,
    "mariadb": mariadb_server,
}
"""How each kind of server is run."""


@contextmanager
def redis_cluster() -> Iterator[list[int]]:
    """Run a Redis Cluster of three masters with a replica each; yield the ports of all six."""
    ports = [free_port() for _ in range(6)]
    with ExitStack() as stack:
        for port in ports:
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
            stack.enter_context(redis_server(port, *options))
        nodes = [f"127.0.0.1:{port}" for port in ports]
        create = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        for port in ports:
            _await(lambda port=port: _is_in_cluster(port), "the cluster")  # type: ignore[misc]
        yield ports


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        if user:
            os.chown(name, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        yield Path(name)


def _found(program: str, path: str | None = None) -> str:
    if found := shutil.which(program, path=path):
        return found
    pytest.skip(f"{program} is needed for a server of the test's own")


def _unprivileged(user: str) -> str | None:
    """Return the user that a server runs as that refuses to run as root."""
    return user if os.geteuid() == 0 else None


def _await(is_ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not is_ready():
        assert time.monotonic() < deadline, f"{what} does not answer"
        time.sleep(0.05)


def _answers_redis(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _is_in_cluster(port: int) -> bool:
    with redis.Redis(port=port, decode_responses=True) as client:
        return bool(client.cluster("info")["cluster_state"] == "ok")


def _answers_sql(url: str) -> bool:
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.drivername].name))
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()
