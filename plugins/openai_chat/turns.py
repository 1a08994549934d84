"""Turns: one at a time in each session, whatever host they arrive at, and each stored once or not at all.

A turn goes on by itself once it has been started: its caller may listen to it, wait for it, or leave.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

from marketplace import Conflict, ServiceError, Unavailable
from plugins.openai_chat.chat import (
    Chat,
    Completions,
    Message,
    Prompt,
    Session,
    SessionStore,
    Turn,
    busy,
    unknown,
)
from plugins.openai_chat.leases import Leases
from plugins.openai_chat.running import Answered, RunningTurn

__all__ = ["QUEUES", "Queues", "Turns"]

log = logging.getLogger("marketplace.openai")

SAVE = 600.0
"""Seconds that a reply with a key is tried to be saved after its caller has been told that it was not."""

PAUSE = 0.1, 1.0
"""Seconds between attempts to save, the first and the longest."""


class Queues:
    """Who comes next in each session within this process; the others wait in the order of their arrival."""

    def __init__(self) -> None:
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def place(self, session_id: str, wait: float) -> AsyncIterator[float]:
        """Wait for the place, ``wait`` seconds at most, and yield how many of them are left."""
        end = asyncio.get_running_loop().time() + wait
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        try:
            async with asyncio.timeout_at(end):
                await lock.acquire()
        except TimeoutError:
            raise busy("an earlier message of this session is still awaiting its reply") from None
        try:
            yield max(0.0, end - asyncio.get_running_loop().time())
        finally:
            lock.release()


QUEUES = Queues()
"""Those of the process: an install that is replaced finishes its last turns beside the new ones."""


class Turns:
    """Takes prompts and has them answered.

    ``timeout`` is how many seconds a turn may take from when it is its turn, ``wait`` how many it may have
    to wait for that.
    """

    def __init__(
        self,
        chat: Chat,
        completions: Completions,
        *,
        timeout: float,
        wait: float,
        queues: Queues = QUEUES,
    ) -> None:
        self._chat = chat
        self._completions = completions
        self._timeout = timeout
        self._wait = wait
        self._queues = queues
        self._leases: dict[int, Leases] = {}
        self._keyed: dict[tuple[str, str], RunningTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def start(self, session_id: str, prompt: Prompt, *, streams: bool = False) -> tuple[RunningTurn, bool]:
        """Have ``prompt`` answered; the turn of a call with the same key is joined while it is under way.

        Also return whether it is such a one.

        Raises:
            NotFound: if that is no id of a session.
            Conflict: if that call had another text.
        """
        store = self._chat.store_of(session_id)
        name = (session_id, prompt.key or "")
        if prompt.key and (running := self._keyed.get(name)):
            if running.prompt != prompt:
                raise _conflict()
            return running, True
        turn = RunningTurn(session_id, prompt, streams=streams)
        if prompt.key:
            self._keyed[name] = turn
        task = asyncio.create_task(self._run(turn, store))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._forget(task, name))
        return turn, False

    async def close(self) -> None:
        """Wait for the turns that are under way."""
        self._is_closing = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, task: asyncio.Task[None], name: tuple[str, str]) -> None:
        self._tasks.discard(task)
        if name[1]:
            self._keyed.pop(name, None)

    async def _run(self, turn: RunningTurn, store: SessionStore) -> None:
        try:
            async with self._queues.place(turn.session_id, self._wait_of(turn.prompt)) as left:
                turn.finish(await self._answer(turn, store, left))
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("A turn of session %s failed", turn.session_id)
            turn.fail(error)

    def _wait_of(self, prompt: Prompt) -> float:
        # It may be the first call with this very key that has the turn.
        return max(self._wait, self._timeout) if prompt.key else self._wait

    async def _answer(self, turn: RunningTurn, store: SessionStore, wait: float) -> Answered:
        token = secrets.token_hex(8)
        session = await store.begin(turn.session_id, turn.prompt, token, wait=wait)
        if session is None:
            raise unknown(turn.session_id)
        is_stored = False
        try:
            if session.earlier:
                return _replayed(session.earlier, turn.prompt)
            with self._leases_of(store).kept(session.id, token):
                answered = await self._complete(turn, session, store, token)
            is_stored = True
            return answered
        finally:
            if not is_stored:
                with suppress(ServiceError):  # then it ends by itself
                    await store.release(session.id, token)

    async def _complete(
        self, turn: RunningTurn, session: Session, store: SessionStore, token: str
    ) -> Answered:
        deadline = asyncio.get_running_loop().time() + self._timeout
        turn.take()
        completion = await self._completions.complete(
            session.model,
            (*session.messages, Message("user", turn.prompt.text)),
            deadline=deadline,
            listen=turn.add if turn.streams else None,
        )
        stored = Turn(prompt=turn.prompt, reply=completion.text)
        try:
            await self._save(turn, (session, stored, token), store, deadline)
        except ServiceError:
            log.warning("A reply of session %s could not be stored, and is lost", session.id)
            raise
        return Answered(completion.text, used=completion.used)

    async def _save(
        self, turn: RunningTurn, what: tuple[Session, Turn, str], store: SessionStore, deadline: float
    ) -> None:
        pause, longest = PAUSE
        while True:
            try:
                if await store.append(*what):
                    return
                raise busy("somebody else had the turn of this session before the reply came")
            except Unavailable as error:
                deadline = self._later(turn, error, deadline, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _later(self, turn: RunningTurn, error: Unavailable, deadline: float, pause: float) -> float:
        """Return until when to go on trying to save, or raise ``error``."""
        now = asyncio.get_running_loop().time()
        if not error.retryable or self._is_closing:
            raise error
        if now + pause < deadline:
            return deadline
        if turn.prompt.key is None or turn.is_done:
            raise error
        # The caller can ask for it again by its key: it is worth saving even so.
        turn.fail(error)
        return now + SAVE

    def _leases_of(self, store: SessionStore) -> Leases:
        return self._leases.setdefault(id(store), Leases(store))


def _replayed(earlier: Turn, prompt: Prompt) -> Answered:
    if earlier.prompt.text != prompt.text:
        raise _conflict()
    return Answered(earlier.reply, is_replayed=True)


def _conflict() -> Conflict:
    return Conflict("the key was used with another message", reason="idempotency_key")
