"""The HTTP face: the three routes and what travels over them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency

from marketplace import Event, EventStream
from plugins.openai_chat.chat import Chat, Message, Prompt
from plugins.openai_chat.running import RunningTurn
from plugins.openai_chat.turns import Turns

__all__ = [
    "CreateSession",
    "GetSessionMessages",
    "Part",
    "Reply",
    "SendMessage",
    "SessionCreated",
    "SessionMessages",
    "about",
    "routes",
]

EVENTS = "text/event-stream"

PATIENCE = 10.0
"""Seconds that a stream's status waits for the first part of the reply, from when it is the turn's time."""


def about(text: str, *examples: Any) -> Any:
    """Return what the document says of a field."""
    return msgspec.Meta(description=text, examples=list(examples))


ID = "258cd588-422b-4b7f-b705-d9132e9e1226"

SessionId = Annotated[str, about("The session's id, as createSession returned it.", ID)]
Model = Annotated[str, about("The name of the model that replies in the session.", "gpt-3.5-turbo")]
Persist = Annotated[
    bool, about("Whether the session's messages are kept in the database, rather than in the cache.", False)
]


class CreateSession(msgspec.Struct, frozen=True, rename="camel"):
    """The arguments of createSession."""

    ai_model: Annotated[str | None, about("The model to use, if not the installed one.", "gpt-3.5-turbo")] = (
        None
    )
    persist: Persist = msgspec.field(name="persistInDB", default=False)


class SendMessage(msgspec.Struct, frozen=True, rename="camel"):
    """The arguments of sendMessage."""

    message: Annotated[str, about("A prompt for the AI.", "What is the capital of India?")]
    session_id: SessionId


class GetSessionMessages(msgspec.Struct, frozen=True, rename="camel"):
    """The argument of getSessionMessages."""

    session_id: SessionId


class SessionCreated(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to createSession."""

    session_id: SessionId


class Reply(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to sendMessage."""

    session_id: SessionId
    response_message: Annotated[str, about("The AI's reply.", "The capital of India is New Delhi.")]


class SessionMessages(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to getSessionMessages."""

    messages: Annotated[tuple[Message, ...], about("Prompts and replies, in order.")]
    ai_model: Model
    id: SessionId
    is_persisted: Persist = msgspec.field(name="persistInDB")


class Part(msgspec.Struct, frozen=True):
    """The data of an event ``delta``."""

    text: str


def routes(chat: Chat, turns: Turns) -> Router:
    """Return the handlers of the three methods."""

    @post("/session", status_code=200)
    async def create_session(
        arguments: NamedDependency[CreateSession], idempotency_key: NamedDependency[str | None]
    ) -> Response[SessionCreated]:
        """Create a session, which keeps its prompts and replies."""
        session, is_replayed = await chat.create_session(
            arguments.ai_model, persist=arguments.persist, key=idempotency_key
        )
        return Response(SessionCreated(session.id), headers=_headers(is_replayed=is_replayed))

    @post("/message", status_code=200)
    async def send_message(
        arguments: NamedDependency[SendMessage],
        idempotency_key: NamedDependency[str | None],
        request: Request[Any, Any, Any],
    ) -> Response[Reply | EventStream]:
        """Send a prompt, have the session's model reply to it, and keep both.

        With ``Accept: text/event-stream`` the reply comes in parts: events ``delta`` with its text, then
        ``message`` with the whole answer, or ``error``.
        """
        streams = EVENTS in request.headers.get("accept", "")
        prompt = Prompt(arguments.message, idempotency_key)
        turn, is_joined = turns.start(arguments.session_id, prompt, streams=streams)
        if not streams:
            answered = await turn.answered()
            reply = Reply(turn.session_id, answered.reply)
            return Response(
                reply, headers=_headers(answered.used, is_replayed=answered.is_replayed or is_joined)
            )
        await turn.begun(PATIENCE)
        known = turn.so_far
        headers = _headers(known.used, is_replayed=known.is_replayed or is_joined)
        return Response(EventStream(_events(turn)), headers=headers)

    @get("/session-messages")
    async def get_session_messages(
        arguments: NamedDependency[GetSessionMessages],
    ) -> SessionMessages:
        """Return all messages of a session, and its model."""
        session = await chat.get_session(arguments.session_id)
        return SessionMessages(session.messages, session.model, session.id, session.is_persisted)

    return Router("/", route_handlers=[create_session, send_message, get_session_messages])


async def _events(turn: RunningTurn) -> AsyncIterator[Event]:
    async for part in turn.parts():
        yield Event("delta", Part(part))
    answered = await turn.answered()
    yield Event("message", Reply(turn.session_id, answered.reply))


def _headers(used: int | None = None, *, is_replayed: bool) -> dict[str, str]:
    headers = {} if used is None else {"X-Context-Messages": str(used)}
    return {**headers, "Idempotency-Replayed": "true"} if is_replayed else headers
