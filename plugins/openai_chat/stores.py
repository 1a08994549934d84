"""Where sessions are kept: in the cache, or in the tables OpenAISession and OpenAIMessage."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from marketplace import Cache, Database, Unavailable
from plugins.openai_chat import tables
from plugins.openai_chat.chat import Message, Prompt, Session, Turn, busy
from plugins.openai_chat.leases import LEASE
from plugins.openai_chat.watch import Watch

__all__ = ["CacheKeys", "CachedSessions", "TableSessions"]


Result = TypeVar("Result")

CREATE = 15.0
HELD = 60.0
"""Seconds that a createSession waits for another one with the same key, and may take itself."""

INSIST = 1.5
"""Seconds after which a waiter asks to be the next, whoever is."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first entry of a cached session; its messages follow. ``key`` is what it was created with."""

    model: str
    key: str | None = None


class _Keyed(msgspec.Struct, frozen=True):
    """A message that came with a key."""

    role: str
    content: str
    key: str | None = None


class _Made(msgspec.Struct, frozen=True):
    """What is kept under the key of a createSession."""

    id: str
    model: str


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_made = msgspec.json.Decoder(_Made).decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_keyed = msgspec.json.Decoder(_Keyed).decode


class CachedSessions:
    """Sessions in the cache, for ``ttl`` seconds from their last use.

    A session that is used for a turn lives ``turn`` seconds longer, so that it does not expire meanwhile.
    """

    def __init__(self, cache: Cache, *, ttl: float, turn: float) -> None:
        self._cache = cache
        self._ttl = ttl
        self._turn = turn

    async def create(self, session: Session, key: str | None) -> Session:
        """Keep a new session; see `SessionStore.create`."""
        if key and (earlier := await self.created_with(key)):
            return earlier
        await self._insert(session, key)
        if key:
            made = _Made(session.id, session.model)
            await self._cache.create(_made_with(key), [_encode(made)], ttl=self._ttl)
        return session

    async def created_with(self, key: str) -> Session | None:
        """Return the session that was created with ``key``; see `SessionStore.created_with`."""
        entries = await self._cache.read(_made_with(key), ttl=self._ttl)
        if not entries:
            return None
        made = _decode_made(entries[0])
        # Their times are not quite the same: the session may be over.
        if not await self._cache.read(_key(made.id), ttl=self._ttl):
            return None
        return Session(id=made.id, model=made.model, is_persisted=False)

    async def read(self, session_id: str) -> Session | None:
        """Return the session; see `SessionStore.read`."""
        return await self._read(session_id, ttl=self._ttl)

    async def begin(self, session_id: str, prompt: Prompt, token: str, *, wait: float) -> Session | None:
        """Take the turn of a session and read it; see `SessionStore.begin`."""
        if not await self._cache.lease(_key(session_id), token, ttl=LEASE, wait=wait):
            raise busy("another message of this session is still awaiting its reply")
        session = None
        try:
            session = await self._read(session_id, prompt, ttl=self._ttl + self._turn)
        finally:
            if session is None:
                await self.release(session_id, token)
        return session

    async def renew(self, turns: Mapping[str, str]) -> set[str]:
        """Hold on to ``turns``; see `SessionStore.renew`."""
        held = await self._cache.renew({_key(name): token for name, token in turns.items()}, ttl=LEASE)
        return {name for name in turns if _key(name) in held}

    async def append(self, session: Session, turn: Turn, token: str) -> bool:
        """Store ``turn``; see `SessionStore.append`."""
        prompt, reply = turn.messages
        key = turn.prompt.key
        is_stored = await self._cache.append(
            _key(session.id),
            [_encode(_Keyed(prompt.role, prompt.content, key) if key else prompt), _encode(reply)],
            length=1 + len(session.messages),
            ttl=self._ttl,
            token=token,
        )
        if is_stored:
            await self.release(session.id, token)
        return is_stored

    async def release(self, session_id: str, token: str) -> None:
        """Give the session's turn back; see `SessionStore.release`."""
        await self._cache.release(_key(session_id), token)

    async def _insert(self, session: Session, key: str | None) -> None:
        await self._cache.create(_key(session.id), [_encode(_Head(session.model, key))], ttl=self._ttl)

    async def _read(self, session_id: str, prompt: Prompt | None = None, *, ttl: float) -> Session | None:
        room = len(prompt.text.encode()) if prompt else 0
        entries = await self._cache.read(_key(session_id), ttl=ttl, room=room)
        if entries is None:
            return None
        head = _decode_head(entries.pop(0))
        if head.key:
            await self._cache.read(_made_with(head.key), ttl=ttl)  # it lives as long
        return Session(
            id=session_id,
            model=head.model,
            is_persisted=False,
            messages=tuple(map(_decode_message, entries)),
            earlier=_earlier(entries, prompt.key) if prompt and prompt.key else None,
        )


def _key(session_id: str) -> str:
    return f"OpenAISession:{session_id}"


def _made_with(key: str) -> str:
    return f"OpenAISession:key:{hashlib.sha256(key.encode()).hexdigest()}"


def _earlier(entries: list[bytes], key: str) -> Turn | None:
    sign = _encode(key)
    for position, entry in enumerate(entries):
        if sign in entry and (prompt := _decode_keyed(entry)).key == key:
            reply = _decode_message(entries[position + 1]).content
            return Turn(prompt=Prompt(prompt.content, key), reply=reply)
    return None


class CacheKeys:
    """The keys of createSession, held in the cache, which all hosts share."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[None]:
        """Have ``key`` for oneself; see `Keys.held`.

        Without the cache whoever needs it fails by himself, and a database keeps its own keys apart.

        Raises:
            Busy: if another call with the key takes too long.
        """
        name, token = _made_with(key), secrets.token_hex(8)
        try:
            is_held = await self._cache.lease(name, token, ttl=HELD, wait=CREATE)
        except Unavailable:
            yield
            return
        if not is_held:
            raise busy("another call with this key is under way")
        try:
            yield
        finally:
            with suppress(Unavailable):  # then it ends by itself
                await self._cache.release(name, token)


class TableSessions:
    """Sessions in the two tables, which are made when the first session is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._are_tables_known = False
        self._watch = Watch(database)

    async def create(self, session: Session, key: str | None) -> Session:
        """Keep a new session; see `SessionStore.create`."""
        if not self._are_tables_known:
            await self._database.create_tables(tables.sessions, tables.messages)
        insert = partial(tables.insert_session, session, key)
        try:
            return await self._run(self._database.run, insert)
        except IntegrityError:  # another host was a little quicker
            return await self._run(self._database.run, insert)

    async def created_with(self, key: str) -> Session | None:
        """Return the session that was created with ``key``; see `SessionStore.created_with`."""
        if not await self._are_there():
            return None
        return await self._run(self._database.read, partial(tables.select_created_with, key))

    async def read(self, session_id: str) -> Session | None:
        """Return the session; see `SessionStore.read`."""
        if not await self._are_there():
            return None
        return await self._run(self._database.read, partial(tables.select_session, session_id))

    async def begin(self, session_id: str, prompt: Prompt, token: str, *, wait: float) -> Session | None:
        """Take the turn of a session and read it; see `SessionStore.begin`."""
        if not await self._are_there():
            return None
        end = asyncio.get_running_loop().time() + wait
        take = partial(tables.take, session_id, prompt, token)
        found = await self._run(self._database.run, take)
        try:
            while found is tables.Waiting.YES:
                now = asyncio.get_running_loop().time()
                if now >= end:
                    raise busy("another host has the turn of this session")
                is_free = await self._watch.is_free(session_id, token, until=min(end, now + INSIST))
                found = await self._run(self._database.run, partial(take, insist=not is_free))
        finally:
            if found is tables.Waiting.YES:
                await self._run(self._database.run, partial(tables.leave, session_id, token))
        return found

    async def renew(self, turns: Mapping[str, str]) -> set[str]:
        """Hold on to ``turns``; see `SessionStore.renew`."""
        return await self._run(self._database.run, partial(tables.renew, turns))

    async def append(self, session: Session, turn: Turn, token: str) -> bool:
        """Store ``turn``; see `SessionStore.append`."""
        return await self._run(self._database.run, partial(tables.append_turn, session, turn, token))

    async def release(self, session_id: str, token: str) -> None:
        """Give the session's turn back; see `SessionStore.release`."""
        await self._run(self._database.run, partial(tables.release, session_id, token))

    async def _are_there(self) -> bool:
        return self._are_tables_known or await self._database.tables_exist(tables.sessions, tables.messages)

    async def _run(
        self,
        run: Callable[[Callable[[Connection], Result]], Awaitable[Result]],
        work: Callable[[Connection], Result],
    ) -> Result:
        try:
            result = await run(work)
        except Exception:
            self._are_tables_known = False  # somebody may have dropped them
            raise
        self._are_tables_known = True
        return result
