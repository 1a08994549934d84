"""Run a stranger's code so that what hangs in it, or wants to end the process, stays its own trouble.

What is synchronous runs in a thread. What is asynchronous has to run on the event loop, where whoever does
not await keeps everybody waiting: a signal wakes it. Two things cannot be helped: a thread that hangs goes
on until it comes back by itself, and code in C that looks for no signals is not woken.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from marketplace.errors import PluginError

__all__ = ["Hung", "awaited", "in_thread"]

Result = TypeVar("Result")

BLOCK_TIMEOUT = 2.0
"""Seconds that a plugin may keep the event loop to itself."""


class Hung(PluginError):
    """It did not come back in time; ``thread`` is where it still runs, if it runs in one."""

    def __init__(self, limit: float, thread: threading.Thread | None = None) -> None:
        super().__init__(f"It did not start within {limit:g} seconds.")
        self.thread = thread


async def in_thread(call: Callable[..., Result], *arguments: Any, limit: float | None) -> Result:
    """Return what ``call`` returns, or raise what it raises; it runs in a thread of its own.

    Nobody waits for that thread when the process ends.

    Raises:
        Hung: if it takes longer than ``limit`` seconds, if there is a limit.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result((result, error))

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = call(*arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised again where somebody waits for it
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver, result, error)

    thread = threading.Thread(target=work, name=f"guarded {call.__name__}", daemon=True)
    thread.start()
    try:
        async with asyncio.timeout(limit):
            result, error = await outcome
    except TimeoutError:
        raise Hung(limit or 0, thread) from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


async def awaited(what: Awaitable[Any], *, limit: float) -> None:
    """Await ``what``, and raise what it raises.

    Raises:
        Hung: if it takes longer than ``limit`` seconds; it is cancelled then, whether or not it minds.
        PluginError: if it blocks the event loop for longer than `BLOCK_TIMEOUT`.
    """
    task = asyncio.create_task(_outcome(what))
    try:
        await asyncio.wait([task], timeout=limit)
        is_done = task.done()
    finally:
        task.cancel()
    if not is_done:
        await asyncio.wait([task], timeout=1)
        raise Hung(limit)
    if error := task.result():
        raise error


async def _outcome(what: Awaitable[Any]) -> BaseException | None:
    """Return what ``what`` raises: out of a task, some of it would end the event loop."""
    try:
        await _Guarded(what)
    except _Blocked:
        return PluginError(
            f"It blocked the host for {BLOCK_TIMEOUT:g} seconds: what waits has to be awaited, or be"
            " done in a thread."
        )
    except BaseException as error:  # noqa: BLE001
        return error
    return None


class _Guarded(Awaitable[Result]):
    """Takes one step after the other, each under an alarm."""

    def __init__(self, what: Awaitable[Result]) -> None:
        self._what = what

    def __await__(self) -> Generator[Any, Any, Result]:
        steps = self._what.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                with _alarm(BLOCK_TIMEOUT):
                    awaits = steps.throw(thrown) if thrown else next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                yield awaits
                thrown = None
            except BaseException as error:  # noqa: BLE001 - such as that it is cancelled
                thrown = error


class _Blocked(BaseException):
    """No `Exception`, so that nothing in between takes it for its own."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_Blocked` in the block when the time is over, and again if it goes on nevertheless."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread, which is where a host has its event loop
        return
    is_armed = True

    def wake(number: int, frame: FrameType | None) -> None:
        if is_armed:
            raise _Blocked

    previous = signal.signal(signal.SIGALRM, wake)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        try:
            yield
        finally:
            is_armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
