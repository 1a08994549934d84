"""The tables OpenAISession and OpenAIMessage, and what is done with them, each in one transaction.

The turn of a session is held in its row: ``leaseToken`` begins with the 16 characters of its holder's token,
followed by those of who is to have it next, and ``leaseUntil`` says, in milliseconds since 1970 by the
database's clock, how long it is held.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

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
    and_,
    case,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from plugins.openai_chat.chat import Message, Prompt, Session, Turn
from plugins.openai_chat.leases import LEASE

__all__ = [
    "Waiting",
    "append_turn",
    "free_leases",
    "insert_session",
    "leave",
    "messages",
    "release",
    "renew",
    "select_created_with",
    "select_session",
    "sessions",
    "take",
]

RESERVED = 3.0
"""Seconds that a turn is kept for the one who is to have it next."""

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

_TOKEN = 16


class _Now(FunctionElement[int]):
    """The database's clock, in milliseconds since 1970: those of hosts differ."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _now_in_sqlite(element: _Now, compiler: Any, **options: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(_Now, "postgresql")
def _now_in_postgresql(element: _Now, compiler: Any, **options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(_Now, "mysql", "mariadb")
def _now_in_mysql(element: _Now, compiler: Any, **options: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"


_holder = func.substr(sessions.c.leaseToken, 1, _TOKEN)
_next = func.substr(sessions.c.leaseToken, _TOKEN + 1)
_has_next = func.length(sessions.c.leaseToken) > _TOKEN
_is_free = or_(sessions.c.leaseToken.is_(None), sessions.c.leaseUntil <= _Now())

# MySQL computes each value from those before it: the time first, as it looks at the token.
_GIVEN_BACK = (
    (sessions.c.leaseUntil, case((_has_next, _Now() + int(RESERVED * 1000)))),
    (sessions.c.leaseToken, case((_has_next, _next))),
)


class Waiting(Enum):
    """What `take` returns where somebody else has the turn."""

    YES = "yes"


def insert_session(session: Session, key: str | None, connection: Connection) -> Session:
    """Insert a session, or return the one that was created with ``key`` earlier.

    Raises:
        IntegrityError: if that one is being inserted just now.
    """
    if key and (earlier := select_created_with(key, connection)):
        return earlier
    now = _time()
    row = {"objectId": session.id, "created": now, "updated": now, "aiModel": session.model}
    connection.execute(insert(sessions), {**row, "idempotencyKey": key})
    return session


def select_created_with(key: str, connection: Connection) -> Session | None:
    """Return the session that was created with ``key``, without its messages."""
    columns = select(sessions.c.objectId, sessions.c.aiModel)
    row = connection.execute(
        columns.where(sessions.c.ownerId == "", sessions.c.idempotencyKey == key)
    ).first()
    return Session(id=row[0], model=row[1], is_persisted=True) if row else None


def select_session(session_id: str, connection: Connection, prompt: Prompt | None = None) -> Session | None:
    """Return a session with its messages, and the earlier turn that has the key of ``prompt``."""
    model = connection.scalar(select(sessions.c.aiModel).where(sessions.c.objectId == session_id))
    if model is None:
        return None
    of_session = messages.c.sessionId == session_id
    rows = connection.execute(
        select(messages.c.role, messages.c.content).where(of_session).order_by(messages.c.position)
    )
    history = tuple(Message(role, content) for role, content in rows)
    earlier = None
    if prompt and prompt.key:
        has_key = and_(of_session, messages.c.idempotencyKey == prompt.key)
        position = connection.scalar(select(messages.c.position).where(has_key))
        if position is not None:
            texts = [message.content for message in history[position : position + 2]]
            earlier = Turn(prompt=Prompt(texts[0], prompt.key), reply=texts[1])
    return Session(id=session_id, model=model, is_persisted=True, messages=history, earlier=earlier)


def take(
    session_id: str, prompt: Prompt, token: str, connection: Connection, *, insist: bool = False
) -> Session | Waiting | None:
    """Take the turn and read the session; where somebody else has it, be the next if nobody is.

    There is room for one who is next: who has waited for long may ``insist``, and be it in another's place.
    """
    is_mine = _holder == token
    taken = connection.execute(
        update(sessions)
        .where(sessions.c.objectId == session_id, or_(_is_free, is_mine))
        .ordered_values(
            (sessions.c.leaseUntil, _Now() + int(LEASE * 1000)),
            (sessions.c.leaseToken, case((is_mine, sessions.c.leaseToken), else_=token)),
        )
    )
    if taken.rowcount:
        return select_session(session_id, connection, prompt)
    may_be_next = sessions.c.leaseToken.is_not(None) if insist else ~_has_next
    connection.execute(
        update(sessions)
        .where(sessions.c.objectId == session_id, may_be_next)
        .values(leaseToken=_holder + token)
    )
    exists = connection.scalar(select(sessions.c.objectId).where(sessions.c.objectId == session_id))
    return Waiting.YES if exists else None


def leave(session_id: str, token: str, connection: Connection) -> None:
    """Wait no more, and give back the turn if it came just now."""
    connection.execute(
        update(sessions).where(sessions.c.objectId == session_id, _next == token).values(leaseToken=_holder)
    )
    release(session_id, token, connection)


def release(session_id: str, token: str, connection: Connection) -> None:
    """Give the turn back, if ``token`` has it, to whoever is next."""
    connection.execute(
        update(sessions)
        .where(sessions.c.objectId == session_id, _holder == token)
        .ordered_values(*_GIVEN_BACK)
    )


def renew(turns: Mapping[str, str], connection: Connection) -> set[str]:
    """Hold ``turns``, tokens by the ids of their sessions, for longer; return those that are not lost."""
    ours = and_(sessions.c.objectId.in_(list(turns)), _holder.in_(list(turns.values())))
    # A row that somebody holds on to is passed over: the others must not run out with it.
    names = connection.scalars(
        select(sessions.c.objectId).where(ours).with_for_update(skip_locked=True)
    ).all()
    longer = update(sessions).where(sessions.c.objectId.in_(names))
    connection.execute(longer.values(leaseUntil=_Now() + int(LEASE * 1000)))
    return set(connection.scalars(select(sessions.c.objectId).where(ours)))


def free_leases(tokens: Mapping[str, str], connection: Connection) -> set[str]:
    """Return which sessions the tokens, by the ids of the sessions, may take now, or are unknown."""
    may = or_(_is_free, _holder.in_(list(tokens.values())))
    busy = select(sessions.c.objectId).where(sessions.c.objectId.in_(list(tokens)), ~may)
    return tokens.keys() - set(connection.scalars(busy))


def append_turn(session: Session, turn: Turn, token: str, connection: Connection) -> bool:
    """Insert a turn and give the session's turn back; see `SessionStore.append`."""
    length = len(session.messages)
    now = _time()
    changed = connection.execute(
        update(sessions)
        .where(sessions.c.objectId == session.id, sessions.c.messageCount == length, _holder == token)
        .ordered_values(
            (sessions.c.messageCount, length + len(turn.messages)), (sessions.c.updated, now), *_GIVEN_BACK
        )
    )
    if not changed.rowcount:
        # It may be there: when the answer to a COMMIT is lost the turn is appended once more.
        return connection.scalar(select(messages.c.position).where(messages.c.objectId == turn.id)) == length
    connection.execute(insert(messages), _rows(session.id, turn, length, now))
    return True


def _rows(session_id: str, turn: Turn, length: int, now: int) -> Sequence[dict[str, Any]]:
    return [
        {
            "objectId": turn.id if message.role == "user" else str(uuid.uuid4()),
            "created": now,
            "updated": now,
            "sessionId": session_id,
            "position": position,
            "role": message.role,
            "content": message.content,
            "idempotencyKey": turn.prompt.key if message.role == "user" else None,
        }
        for position, message in enumerate(turn.messages, length)
    ]


def _time() -> int:
    return time.time_ns() // 1_000_000
