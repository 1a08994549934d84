"""Conversations: what a session, a message and a turn are, and what can be done with them."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Literal, Protocol

import msgspec

from marketplace import Busy, Conflict, NotFound, Unavailable

__all__ = [
    "Chat",
    "Completion",
    "Completions",
    "Keys",
    "Message",
    "Prompt",
    "Session",
    "SessionStore",
    "Turn",
    "busy",
    "is_persisted",
    "unknown",
]

_SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Message(msgspec.Struct, frozen=True):
    """One text of a conversation, with the role of the party it comes from."""

    role: Literal["user", "assistant"]
    content: str


class Prompt(msgspec.Struct, frozen=True):
    """What a caller says; of prompts with the same ``key`` in a session only one is answered."""

    text: str
    key: str | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt and its reply, stored together or not at all. Its ``id`` is that of the prompt's row."""

    prompt: Prompt
    reply: str
    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def messages(self) -> tuple[Message, Message]:
        """The turn as it stands in the history."""
        return Message("user", self.prompt.text), Message("assistant", self.reply)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation: its messages in order, prompts and replies in turn.

    ``earlier`` is the turn of it that has the key of the prompt it was read for.
    """

    id: str
    model: str
    is_persisted: bool
    messages: tuple[Message, ...] = ()
    earlier: Turn | None = None


class SessionStore(Protocol):
    """Where sessions are kept, and who has the turn of each.

    A turn is held under a random ``token`` of 16 characters, for `LEASE` seconds from when it was taken or
    renewed last.
    """

    async def create(self, session: Session, key: str | None) -> Session:
        """Keep a new session, and return it, or the one that was created with ``key`` earlier."""

    async def created_with(self, key: str) -> Session | None:
        """Return the session that was created with ``key``, without its messages."""

    async def read(self, session_id: str) -> Session | None:
        """Return the session as it is now, or None if there is none."""

    async def begin(self, session_id: str, prompt: Prompt, token: str, *, wait: float) -> Session | None:
        """Take the turn of a session and read it; it will not expire before its reply must have come.

        Raises:
            Busy: if the turn does not come within ``wait`` seconds.
            OutOfSpace: if there is no room for the prompt.
        """

    async def renew(self, turns: Mapping[str, str]) -> set[str]:
        """Hold on to ``turns``, tokens by the ids of their sessions; return those that are not lost."""

    async def append(self, session: Session, turn: Turn, token: str) -> bool:
        """Store ``turn`` and give the session's turn back.

        Return False, and store nothing, if somebody else has had it meanwhile or the history is not that of
        ``session``. The same turn again is stored once.
        """

    async def release(self, session_id: str, token: str) -> None:
        """Give the session's turn back with nothing stored."""


class Completion(msgspec.Struct, frozen=True):
    """A reply; ``used`` is how many messages it is based on."""

    text: str
    used: int


class Completions(Protocol):
    """What completes a conversation."""

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        deadline: float,
        listen: Callable[[str, int], None] | None = None,
    ) -> Completion:
        """Return the reply to the last of ``messages``, by ``deadline`` in the event loop's time.

        ``listen`` is called with each part of it as it comes, and with how many messages it is based on.
        """


class Keys(Protocol):
    """The keys of createSession, of which each is dealt with by one call at a time."""

    def held(self, key: str) -> AbstractAsyncContextManager[None]:
        """Have ``key`` for oneself until the block ends, on whatever host others ask for it."""


class Chat:
    """Sessions, but for their turns. A session's id tells in which of the stores it is kept."""

    def __init__(
        self, default_model: str, *, cached: SessionStore, persisted: SessionStore, keys: Keys
    ) -> None:
        self._default_model = default_model
        self._keys = keys
        self._stores: Mapping[bool, SessionStore] = {False: cached, True: persisted}

    async def create_session(
        self, model: str | None, *, persist: bool, key: str | None = None
    ) -> tuple[Session, bool]:
        """Create an empty session for ``model``, or for the default one.

        With the ``key`` of an earlier call return the session that it created. Also return whether it is
        that one.

        Raises:
            Conflict: if that call had other arguments.
        """
        session = Session(
            id=_new_id(persist=persist), model=model or self._default_model, is_persisted=persist
        )
        if key is None:
            return await self._stores[persist].create(session, None), False
        async with self._keys.held(key):
            with suppress(Unavailable):  # a store that is not asked for need not work
                if await self._stores[not persist].created_with(key):
                    raise Conflict("the key was used with another persistInDB", reason="idempotency_key")
            kept = await self._stores[persist].create(session, key)
        if model and kept.model != model:
            raise Conflict("the key was used with another aiModel", reason="idempotency_key")
        return kept, kept.id != session.id

    async def get_session(self, session_id: str) -> Session:
        """Return a session with all its messages.

        Raises:
            NotFound: if there is no such session.
        """
        session = await self.store_of(session_id).read(session_id)
        if session is None:
            raise unknown(session_id)
        return session

    def store_of(self, session_id: str) -> SessionStore:
        """Return the store that has the session, if there is one of that id.

        Raises:
            NotFound: if that is no id of a session.
        """
        if not _SESSION_ID.fullmatch(session_id):
            raise unknown(session_id)
        return self._stores[is_persisted(session_id)]


def _new_id(*, persist: bool) -> str:
    # A random UUID of which the last bit says where the session is kept, so that no store has to be
    # asked for what it cannot have.
    return str(uuid.UUID(int=uuid.uuid4().int & ~1 | persist))


def is_persisted(session_id: str) -> bool:
    """Return whether the session of that id is one of the database."""
    return bool(int(session_id[-1], 16) & 1)


def unknown(session_id: str) -> NotFound:
    """Return what is to be raised where there is no such session."""
    return NotFound("no such session, or it has expired", reason="session_not_found", id=session_id[:100])


def busy(text: str) -> Busy:
    """Return what is to be raised where the turn of a session is not to be had."""
    return Busy(text, reason="session_busy", retry_after=1)
