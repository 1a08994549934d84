"""Private instances of real servers, for what may not be done to a shared one: clusters and faults."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import redis

__all__ = ["free_port", "redis_cluster", "redis_server"]


def free_port() -> int:
    """Return a port that nobody listens on, low enough for a cluster's second port above it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
        if port < 55000:
            return port


@contextmanager
def redis_server(port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Redis of one's own on ``port`` until the block ends; it may be stopped earlier."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
            try:
                _await_redis(port)
                yield process
            finally:
                process.kill()


@contextmanager
def redis_cluster() -> Iterator[list[int]]:
    """Run a Redis Cluster of three masters with a replica each; yield the ports of all six."""
    ports = [free_port() for _ in range(6)]
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(
                redis_server(port, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            )
        nodes = [f"127.0.0.1:{port}" for port in ports]
        create = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        _await_cluster(ports)
        yield ports


def _await_redis(port: int) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


def _await_cluster(ports: list[int]) -> None:
    deadline = time.monotonic() + 30
    for port in ports:
        with redis.Redis(port=port, decode_responses=True) as client:
            while client.cluster("info")["cluster_state"] != "ok":
                assert time.monotonic() < deadline, "the cluster does not form"
                time.sleep(0.05)
