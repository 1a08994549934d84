"""Conversations: what a session, a message and a turn are, and what can be done with them."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import msgspec

from marketplace import Busy, NotFound

__all__ = ["Chat", "Completions", "Message", "Session", "SessionStore", "Turn"]

TURN_WAIT = 30.0
"""Seconds a message waits for the turn of its session, unless told otherwise."""

_SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Message(msgspec.Struct, frozen=True):
    """One text of a conversation, with the role of the party it comes from."""

    role: Literal["user", "assistant"]
    content: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation: its messages in order, prompts and replies in turn."""

    id: str
    model: str
    is_persisted: bool
    messages: tuple[Message, ...] = ()


class Turn(msgspec.Struct, frozen=True):
    """One prompt and its reply, stored together or not at all."""

    prompt: str
    reply: str

    @property
    def messages(self) -> tuple[Message, Message]:
        """The turn as it stands in the history."""
        return Message("user", self.prompt), Message("assistant", self.reply)


class SessionStore(Protocol):
    """Where sessions are kept."""

    async def create(self, session: Session) -> None:
        """Keep a new session."""

    async def read(self, session_id: str) -> Session | None:
        """Return the session as it is now, or None if there is none."""

    async def begin(self, session_id: str, prompt: str) -> Session | None:
        """Read a session for a turn: it will not expire before the turn's reply must have come.

        Raises:
            OutOfSpace: if there is no room for the ``prompt``.
        """

    async def append(self, session: Session, turn: Turn) -> bool:
        """Store ``turn`` if the history is still that of ``session``; otherwise return False."""


class Completions(Protocol):
    """What completes a conversation."""

    async def complete(self, model: str, messages: Sequence[Message]) -> str:
        """Return the reply to the last of ``messages``."""


class Chat:
    """The use cases. A session's id tells in which of the stores it is kept."""

    def __init__(
        self,
        default_model: str,
        completions: Completions,
        *,
        cached: SessionStore,
        persisted: SessionStore,
        turn_wait: float = TURN_WAIT,
    ) -> None:
        self._default_model = default_model
        self._completions = completions
        self._stores: Mapping[bool, SessionStore] = {False: cached, True: persisted}
        self._turns = _Turns(turn_wait)

    async def create_session(self, model: str | None, *, persist: bool) -> Session:
        """Create an empty session for ``model``, or for the default one."""
        session = Session(
            id=_new_id(persist=persist), model=model or self._default_model, is_persisted=persist
        )
        await self._stores[persist].create(session)
        return session

    async def send_message(self, session_id: str, prompt: str) -> str:
        """Have the session's model reply to ``prompt``, store both, and return the reply.

        Messages of one session are handled one after the other, in the order of their arrival.

        Raises:
            NotFound: if there is no such session.
            Busy: if the session's turn did not come, or somebody else changed the history meanwhile.
            ServiceError: whatever the upstream or the store raises; then the history is as before.
        """
        store = self._store_of(session_id)
        async with self._turns.taken(session_id):
            session = _found(await store.begin(session_id, prompt), session_id)
            messages = (*session.messages, Message("user", prompt))
            reply = await self._completions.complete(session.model, messages)
            if not await store.append(session, Turn(prompt, reply)):
                raise _busy("the session changed while its reply was awaited")
        return reply

    async def get_session(self, session_id: str) -> Session:
        """Return a session with all its messages.

        Raises:
            NotFound: if there is no such session.
        """
        return _found(await self._store_of(session_id).read(session_id), session_id)

    def _store_of(self, session_id: str) -> SessionStore:
        if not _SESSION_ID.fullmatch(session_id):
            raise _unknown(session_id)
        return self._stores[_is_persisted(session_id)]


class _Turns:
    """Who has the turn of each session; the others wait in the order of their arrival."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, session_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self._wait):
                await lock.acquire()
        except TimeoutError:
            raise _busy("an earlier message of this session is still awaiting its reply") from None
        try:
            yield
        finally:
            lock.release()


def _new_id(*, persist: bool) -> str:
    # A random UUID of which the last bit says where the session is kept, so that no store has to be
    # asked for what it cannot have.
    return str(uuid.UUID(int=uuid.uuid4().int & ~1 | persist))


def _is_persisted(session_id: str) -> bool:
    return bool(int(session_id[-1], 16) & 1)


def _found(session: Session | None, session_id: str) -> Session:
    if session is None:
        raise _unknown(session_id)
    return session


def _unknown(session_id: str) -> NotFound:
    return NotFound("no such session, or it has expired", reason="session_not_found", id=session_id[:100])


def _busy(text: str) -> Busy:
    return Busy(text, reason="session_busy", retry_after=1)
