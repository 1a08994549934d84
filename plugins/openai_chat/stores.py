"""Where sessions are kept: in the cache, or in the tables OpenAISession and OpenAIMessage."""

import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql

from marketplace import Cache, Database
from plugins.openai_chat.chat import Message, Session, Turn

__all__ = ["CachedSessions", "TableSessions", "messages", "sessions"]


Result = TypeVar("Result")


class _Head(msgspec.Struct, frozen=True):
    """The first entry of a cached session; its messages follow."""

    model: str


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_message = msgspec.json.Decoder(Message).decode


class CachedSessions:
    """Sessions in the cache, for ``ttl`` seconds from their last use.

    A session that is used for a turn lives ``turn`` seconds longer, so that it does not expire meanwhile.
    """

    def __init__(self, cache: Cache, *, ttl: float, turn: float) -> None:
        self._cache = cache
        self._ttl = ttl
        self._turn = turn

    async def create(self, session: Session) -> None:
        """Keep a new session; see `SessionStore.create`."""
        await self._cache.create(_key(session.id), [_encode(_Head(session.model))], ttl=self._ttl)

    async def read(self, session_id: str) -> Session | None:
        """Return the session; see `SessionStore.read`."""
        return _session(session_id, await self._cache.read(_key(session_id), ttl=self._ttl))

    async def begin(self, session_id: str, prompt: str) -> Session | None:
        """Read a session for a turn; see `SessionStore.begin`."""
        entries = await self._cache.read(
            _key(session_id), ttl=self._ttl + self._turn, room=len(prompt.encode())
        )
        return _session(session_id, entries)

    async def append(self, session: Session, turn: Turn) -> bool:
        """Store ``turn``; see `SessionStore.append`."""
        return await self._cache.append(
            _key(session.id),
            [_encode(message) for message in turn.messages],
            length=1 + len(session.messages),
            ttl=self._ttl,
        )


def _key(session_id: str) -> str:
    return f"OpenAISession:{session_id}"


def _session(session_id: str, entries: list[bytes] | None) -> Session | None:
    if entries is None:
        return None
    head, *rest = entries
    return Session(
        id=session_id,
        model=_decode_head(head).model,
        is_persisted=False,
        messages=tuple(map(_decode_message, rest)),
    )


_metadata = MetaData()

# On MariaDB and MySQL a TEXT ends at 64 KB, and the usual collations find "a" and "A" alike.
_LONG_TEXT = Text().with_variant(
    mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
_EXACT: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}

sessions = Table(
    "OpenAISession",
    _metadata,
    Column("objectId", String(36), primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    # Without an owner it is empty rather than null: nulls would not count for uniqueness.
    Column("ownerId", String(64), nullable=False, default=""),
    Column("aiModel", _LONG_TEXT, nullable=False),
    Column("messageCount", Integer, nullable=False, default=0),
    Column("leaseToken", String(36)),
    Column("leaseUntil", BigInteger),
    Column("idempotencyKey", String(255)),
    UniqueConstraint("ownerId", "idempotencyKey", name="OpenAISession_ownerId_idempotencyKey"),
    **_EXACT,
)
"""One row a session; times are milliseconds since 1970 in UTC."""

messages = Table(
    "OpenAIMessage",
    _metadata,
    Column("objectId", String(36), primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("ownerId", String(64), nullable=False, default=""),
    Column("sessionId", ForeignKey(sessions.c.objectId, ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", _LONG_TEXT, nullable=False),
    Column("idempotencyKey", String(255)),
    UniqueConstraint("sessionId", "position", name="OpenAIMessage_sessionId_position"),
    UniqueConstraint("sessionId", "idempotencyKey", name="OpenAIMessage_sessionId_idempotencyKey"),
    **_EXACT,
)
"""One row a message; ``position`` counts from 0 within its session."""


class TableSessions:
    """Sessions in the two tables, which are made when the first session is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._are_tables_known = False

    async def create(self, session: Session) -> None:
        """Keep a new session; see `SessionStore.create`."""
        if not self._are_tables_known:
            await self._database.create_tables(sessions, messages)
        await self._run(self._database.run, partial(_insert_session, session))

    async def read(self, session_id: str) -> Session | None:
        """Return the session; see `SessionStore.read`."""
        if not self._are_tables_known and not await self._database.tables_exist(sessions, messages):
            return None
        return await self._run(self._database.read, partial(_select_session, session_id))

    async def begin(self, session_id: str, prompt: str) -> Session | None:
        """Read a session for a turn; see `SessionStore.begin`."""
        return await self.read(session_id)

    async def append(self, session: Session, turn: Turn) -> bool:
        """Store ``turn``; see `SessionStore.append`."""
        return await self._run(self._database.run, partial(_insert_turn, session, turn))

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


def _now() -> int:
    return time.time_ns() // 1_000_000


def _insert_session(session: Session, connection: Connection) -> None:
    now = _now()
    row = {"objectId": session.id, "created": now, "updated": now, "aiModel": session.model}
    connection.execute(insert(sessions), row)


def _select_session(session_id: str, connection: Connection) -> Session | None:
    model = connection.scalar(select(sessions.c.aiModel).where(sessions.c.objectId == session_id))
    if model is None:
        return None
    rows = connection.execute(
        select(messages.c.role, messages.c.content)
        .where(messages.c.sessionId == session_id)
        .order_by(messages.c.position)
    )
    return Session(
        id=session_id,
        model=model,
        is_persisted=True,
        messages=tuple(Message(role, content) for role, content in rows),
    )


def _insert_turn(session: Session, turn: Turn, connection: Connection) -> bool:
    now = _now()
    length = len(session.messages)
    changed = connection.execute(
        update(sessions)
        .where(sessions.c.objectId == session.id, sessions.c.messageCount == length)
        .values(messageCount=length + len(turn.messages), updated=now)
    )
    if not changed.rowcount:
        return False
    rows = [
        {
            "objectId": str(uuid.uuid4()),
            "created": now,
            "updated": now,
            "sessionId": session.id,
            "position": position,
            "role": message.role,
            "content": message.content,
        }
        for position, message in enumerate(turn.messages, length)
    ]
    connection.execute(insert(messages), rows)
    return True
