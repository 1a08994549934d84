"""Live installs: notice that what is installed has changed, start it beside what runs, and swap.

Every process looks twice a second. What changed is started while all else goes on; then a new application is
built beside the running one, in a thread, and takes its place between two requests. Who does not come up
in time, or at all, keeps nobody waiting: the rest is swapped in without it. A service closes when the last
request has left the last application that knew it.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from marketplace.installs import Install
from marketplace.interfaces import Host
from service.edge import HTTPApplication
from service.generation import Generation, build
from service.guard import in_thread
from service.inputs import Found, Inputs
from service.places import Place, wanted
from service.services import RunningService, start_service
from service.versions import Versions

__all__ = ["Reload"]

log = logging.getLogger("marketplace.reload")

POLL = 0.5
"""Seconds between two looks."""

PATIENCE = 0.25
FIRST_PATIENCE = 5.0
"""Seconds that those who are ready wait for the others: when something changes, and when the host starts."""

HOLD = 10.0
"""Seconds that a call of a starting service waits for it."""


class Reload:
    """Keeps the services in step with the ``inputs``; ``swap`` gets each generation of them."""

    def __init__(self, inputs: Inputs, host: Host, swap: Callable[[Generation], None]) -> None:
        self._inputs = inputs
        self._host = host
        self._swap = swap
        self._versions = Versions()
        self._places: dict[str, Place] = {}
        self._served: Sequence[RunningService] | None = None
        self._alive: list[Generation] = []  # those that have requests; the last one gets the new ones
        self._open: list[RunningService] = []
        self._swapped = asyncio.Event()
        self._looking: asyncio.Task[Found | None] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start what is installed, and keep looking whether it changes.

        Raises:
            SetupError: if it cannot be read.
        """
        self._found = await in_thread(self._inputs.read, limit=None)
        await self._settle(self._want(self._found), FIRST_PATIENCE)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop looking, and close all services."""
        for task in (self._watching, self._looking, *self._draining):
            if task:
                task.cancel()
        await asyncio.wait([self._watching])
        for place in self._places.values():
            self._forsake(place)
        self._places, self._alive = {}, []
        await self._sweep()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _watch(self) -> None:
        while True:
            await _first(self._starting(), POLL)
            try:
                found = await self._look()
                self._collect()
                await self._settle([*self._want(found), *self._try_again()], PATIENCE)
            except Exception:
                log.exception("What is installed could not be taken over")

    async def _look(self) -> Found | None:
        """Return what is installed if that has changed; a slow folder is looked at by and by."""
        looking = self._looking or asyncio.create_task(
            in_thread(self._inputs.changed, self._found, limit=None)
        )
        await _first([looking], POLL)
        self._looking = None if looking.done() else looking
        return looking.result() if looking.done() else None

    def _want(self, found: Found | None) -> list[asyncio.Task[Any]]:
        """Begin to start what has to be; return the starts."""
        if not found:
            return []
        self._found = found
        for name in self._places.keys() - found.installs.keys():
            self._forsake(self._places.pop(name))
            _spawn(self._sweep(), self._closing)
        self._places = {name: self._places.get(name) or Place() for name in found.installs}
        goals = {name: wanted(install, found.manifest) for name, install in found.installs.items()}
        changed = [n for n, place in self._places.items() if place.wanted != goals[n] or place.is_failed]
        for name in changed:
            self._forsake(self._places[name])
            if product := goals[name].product:
                self._versions.note(found.manifest, product)
        return [self._places[name].begin(goals[name], self._start) for name in changed]

    def _try_again(self) -> list[asyncio.Task[Any]]:
        due = [place for place in self._places.values() if place.is_due]
        return [place.begin(place.wanted, self._start) for place in due if place.wanted]

    def _start(self, install: Install) -> Coroutine[Any, Any, RunningService]:
        return start_service(install, self._found.manifest, self._host)

    async def _settle(self, starts: list[asyncio.Task[Any]], patience: float) -> None:
        """Wait a little for ``starts``, and serve what there is then."""
        if starts:
            await asyncio.wait(starts, timeout=patience)
        self._collect()
        services = [place.shown for place in self._places.values()]
        if self._served is not None and list(map(id, services)) == list(map(id, self._served)):
            return
        self._served = services
        generation = await in_thread(build, services, self._successor, limit=None)
        self._swap(generation)
        self._alive.append(generation)
        self._swapped.set()
        self._swapped = asyncio.Event()
        if len(self._alive) > 1:
            _spawn(self._drain(self._alive[-2]), self._draining)
            told = [f"{service.info.name} ({service.info.state})" for service in generation.services]
            log.info("Now serving %s", ", ".join(told) or "nothing")

    def _collect(self) -> None:
        """Let those take their places whose start has come to an end."""
        for place in self._places.values():
            if place.collect() and place.running and place.running.service:
                self._open.append(place.running)
            if place.wanted and place.wanted.product:
                place.tell(self._versions.outdated(self._found.manifest, place.wanted.product))

    def _starting(self) -> list[asyncio.Task[RunningService]]:
        return [place.starting for place in self._places.values() if place.starting]

    def _forsake(self, place: Place) -> None:
        """End the start that is under way in ``place``; nobody waits for it any more."""

        async def end(start: asyncio.Task[RunningService]) -> None:
            start.cancel()
            with suppress(asyncio.CancelledError):
                await (await start).close()

        if start := place.abandon():
            _spawn(end(start), self._closing)

    async def _successor(self, name: str) -> HTTPApplication | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD):
                while name in self._alive[-1].starting:
                    await self._swapped.wait()
                return self._alive[-1]
        return None

    async def _drain(self, generation: Generation) -> None:
        """Close what only ``generation`` knew, once the last request has left it."""
        await generation.drained()
        self._alive.remove(generation)
        del generation
        await asyncio.shield(_spawn(self._sweep(), self._closing))
        # An application is full of cycles, and the collector is told to come by rarely.
        gc.collect()

    async def _sweep(self) -> None:
        """Close the services that nothing leads to any more."""
        known = [service for generation in self._alive for service in generation.services]
        known += [place.running for place in self._places.values() if place.running]
        used = {id(running.service) for running in known}
        gone = [running for running in self._open if id(running.service) not in used]
        self._open = [running for running in self._open if id(running.service) in used]
        await asyncio.gather(*(running.close() for running in gone))


async def _first(tasks: Sequence[asyncio.Task[Any]], seconds: float) -> None:
    """Wait until one of ``tasks`` is done, for that many ``seconds`` at most."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.sleep(seconds)


def _spawn(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Have ``work`` done, and keep its task ``among`` the others until then: nobody else does."""
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)
    return task
