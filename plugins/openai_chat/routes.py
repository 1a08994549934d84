"""The HTTP face: the three routes and what travels over them."""

from typing import Annotated, Any

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
    "about",
    "routes",
]


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


def routes(chat: Chat) -> Router:
    """Return the handlers of the three methods."""

    @post("/session", status_code=200)
    async def create_session(arguments: NamedDependency[CreateSession]) -> SessionCreated:
        """Create a session, which keeps its prompts and replies."""
        session = await chat.create_session(arguments.ai_model, persist=arguments.persist)
        return SessionCreated(session.id)

    @post("/message", status_code=200)
    async def send_message(arguments: NamedDependency[SendMessage]) -> Reply:
        """Send a prompt, have the session's model reply to it, and keep both."""
        reply = await chat.send_message(arguments.session_id, arguments.message)
        return Reply(arguments.session_id, reply)

    @get("/session-messages")
    async def get_session_messages(
        arguments: NamedDependency[GetSessionMessages],
    ) -> SessionMessages:
        """Return all messages of a session, and its model."""
        session = await chat.get_session(arguments.session_id)
        return SessionMessages(session.messages, session.model, session.id, session.is_persisted)

    return Router("/", route_handlers=[create_session, send_message, get_session_messages])
