"""The HTTP face: the three routes and what travels over them."""

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency

from plugins.openai_chat.chat import Chat, Message

__all__ = [
    "CreateSession",
    "GetSessionMessages",
    "Reply",
    "SendMessage",
    "SessionCreated",
    "SessionMessages",
    "routes",
]


class CreateSession(msgspec.Struct, frozen=True, rename="camel"):
    """The arguments of createSession: the model to use, and whether to keep the session in the database."""

    ai_model: str | None = None
    persist: bool = msgspec.field(name="persistInDB", default=False)


class SendMessage(msgspec.Struct, frozen=True, rename="camel"):
    """The arguments of sendMessage: the prompt, and the session it belongs to."""

    message: str
    session_id: str


class GetSessionMessages(msgspec.Struct, frozen=True, rename="camel"):
    """The argument of getSessionMessages."""

    session_id: str


class SessionCreated(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to createSession."""

    session_id: str


class Reply(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to sendMessage."""

    session_id: str
    response_message: str


class SessionMessages(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to getSessionMessages."""

    messages: tuple[Message, ...]
    ai_model: str
    id: str
    is_persisted: bool = msgspec.field(name="persistInDB")


def routes(chat: Chat) -> Router:
    """Return the handlers of the three methods."""

    @post("/session", status_code=200)
    async def create_session(arguments: NamedDependency[CreateSession]) -> SessionCreated:
        session = await chat.create_session(arguments.ai_model, persist=arguments.persist)
        return SessionCreated(session.id)

    @post("/message", status_code=200)
    async def send_message(arguments: NamedDependency[SendMessage]) -> Reply:
        reply = await chat.send_message(arguments.session_id, arguments.message)
        return Reply(arguments.session_id, reply)

    @get("/session-messages")
    async def get_session_messages(
        arguments: NamedDependency[GetSessionMessages],
    ) -> SessionMessages:
        session = await chat.get_session(arguments.session_id)
        return SessionMessages(session.messages, session.model, session.id, session.is_persisted)

    return Router("/", route_handlers=[create_session, send_message, get_session_messages])
