"""The place of an install among the services: who answers there now, and who is starting to take over."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from marketplace.errors import MissingAnswer
from marketplace.installs import Install
from marketplace.manifest import Manifest, Product, Value
from service.services import RunningService, ServiceInfo

__all__ = ["Place", "Wanted", "wanted"]

FIRST_RETRY = 30.0
LAST_RETRY = 300.0
"""Seconds until a service that failed for a passing reason is started again; twice as many each time."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides how a service behaves; one that is equal keeps its instance."""

    install: Install
    product: Product | None
    values: dict[str, Value] | None


def wanted(install: Install, manifest: Manifest) -> Wanted:
    """Return what is wanted of ``install``, with the values that the environment gives it."""
    try:
        values = install.values(os.environ)
    except MissingAnswer:
        values = None
    return Wanted(install=install, product=manifest.find(install.product), values=values)


Start = Callable[[Install], Coroutine[Any, Any, RunningService]]


class Place:
    """Where the service of one install answers.

    While another is starting to take over, the one that runs goes on answering. Once that has started or
    failed, it takes the place: what cannot start is told, rather than that what an operator has replaced,
    perhaps for a reason, went on in secret.
    """

    def __init__(self) -> None:
        self.wanted: Wanted | None = None
        self.running: RunningService | None = None
        self.starting: asyncio.Task[RunningService] | None = None
        self._waiting: RunningService | None = None
        self._retry_at = float("inf")
        self._retry_after = FIRST_RETRY

    @property
    def shown(self) -> RunningService:
        """The service as it has to be told of now."""
        service = self.running or self._waiting
        assert service, "a place is made for a service that starts"  # noqa: S101
        return service

    @property
    def is_failed(self) -> bool:
        """Whether there is a service that failed, and does not hang any more."""
        if self.starting or not self.running or self.running.info.state != "failed":
            return False
        return not (self.running.stuck and self.running.stuck.is_alive())

    @property
    def is_due(self) -> bool:
        """Whether it is time to try once more what failed for a passing reason."""
        return self.is_failed and time.monotonic() >= self._retry_at

    def begin(self, wanted: Wanted, start: Start) -> asyncio.Task[RunningService]:
        """Start a service as it is ``wanted``."""
        if wanted != self.wanted:
            self._retry_after = FIRST_RETRY
            if self.running and not self.running.service:
                self.running = None  # it failed: callers may as well wait for its successor
        self.wanted = wanted
        install = wanted.install
        summary = wanted.product.summary if wanted.product else ""
        info = ServiceInfo(name=install.product, version=install.version, summary=summary, state="starting")
        self._waiting = RunningService(info=info)
        self.starting = asyncio.create_task(start(install))
        return self.starting

    def collect(self) -> bool:
        """Let what has come to the end of its start take the place; return whether there is such."""
        if not self.starting or not self.starting.done():
            return False
        self.running, self.starting = self.starting.result(), None
        self._retry_at = time.monotonic() + self._retry_after if self.running.is_temporary else float("inf")
        self._retry_after = min(2 * self._retry_after, LAST_RETRY)
        return True

    def abandon(self) -> asyncio.Task[RunningService] | None:
        """Wait no longer for who is starting; return its task."""
        task, self.starting = self.starting, None
        return task

    def tell(self, outdated: str | None) -> None:
        """Have the service's notice say what is ``outdated`` of it, if anything is."""
        if not self.running or not self.wanted:
            return
        product, info = self.wanted.product, self.running.info
        trial = product.notice(self.wanted.install.answers) if product else None
        notice = " ".join(filter(None, (trial, outdated))) or None
        if notice != info.notice and not self.starting:
            info = msgspec.structs.replace(info, notice=notice)
            self.running = msgspec.structs.replace(self.running, info=info)
