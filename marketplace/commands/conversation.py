"""`marketplace chat`: a conversation in the terminal with a service of a running host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from marketplace.commands.hosts import found_service, open_client
from marketplace.errors import BadCall, CallFailed, NoHost
from marketplace.manifest import SERVICES
from marketplace.output import examples, harmless

if TYPE_CHECKING:
    from marketplace.client import HostClient

__all__ = ["chat"]

PATIENCE = 300.0
"""Seconds that may pass without a sign of the reply; the host's own limits are shorter."""

STREAM = "text/event-stream"
METHODS = ("createSession", "sendMessage", "getSessionMessages")


class _Message(msgspec.Struct):
    role: str
    content: str


class _History(msgspec.Struct):
    messages: list[_Message]


class _Session(msgspec.Struct, rename="camel"):
    session_id: str


class _Reply(msgspec.Struct, rename="camel"):
    response_message: str


class _Delta(msgspec.Struct):
    text: str


@click.command(
    epilog=examples(
        "marketplace chat",
        "marketplace chat --model gpt-4o --persist",
        "marketplace chat --session ID",
        'echo "What is AI?" | marketplace chat',
    )
)
@click.option("--service", default="OpenAI", show_default=True, help="The service to talk to.")
@click.option("--model", metavar="NAME", help="A model other than the installed one.")
@click.option("--persist", is_flag=True, help="Keep the session in the database.")
@click.option("--session", metavar="ID", help="Go on with an earlier session.")
@click.pass_context
def chat(context: click.Context, service: str, model: str | None, persist: bool, session: str | None) -> None:
    """Talk to a service of a running host: a line is a message.

    Ctrl-D ends the conversation; Ctrl-C gives up waiting for a reply. Without a terminal each line of
    standard input is a message, and the replies are on standard output. The host is called at
    MARKETPLACE_URL, which is http://127.0.0.1:8080 unless it is set.
    """
    if session and (model or persist):
        raise BadCall("--model and --persist are for a new session: leave them out with --session.")
    client = open_client()
    methods = {method.name: method.route for method in found_service(client, service).methods}
    if missing := [name for name in METHODS if name not in methods]:
        raise BadCall(f"{service} is no service to chat with: it has no method {missing[0]}.")
    wanted = {"aiModel": model} if model else {}
    talk = _Conversation(client, service, methods["sendMessage"], {**wanted, "persistInDB": persist})
    if session:
        talk.go_on(session)
    try:
        _converse(talk)
    finally:
        talk.tell_session()
    context.exit(1 if talk.has_failed and not sys.stdin.isatty() else 0)


def _converse(talk: _Conversation) -> None:
    if sys.stdin.isatty():
        click.echo("Ctrl-D ends the conversation.", err=True)
    for message in _messages():
        try:
            talk.send(message)
        except (CallFailed, NoHost) as error:
            talk.has_failed = True
            click.echo(harmless(str(error)), err=True)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            text = "\nNot waited for any longer. The turn is still completed and stored; --session shows it."
            click.echo(text, err=True)


def _messages() -> Iterator[str]:
    """Yield what is said, line by line, until there is no more."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    import readline  # noqa: F401 - gives `input` its line editing

    while True:
        try:
            line = _typed()
        except EOFError:
            click.echo(err=True)
            return
        if line.strip():
            yield line.strip()


def _typed() -> str:
    if sys.stdout.isatty():
        return input("You: ")
    click.echo("You: ", nl=False, err=True)
    return input()


def _is_in_person() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


class _Conversation:
    """One session, made when the first message is sent."""

    def __init__(self, client: HostClient, service: str, route: str, wanted: dict[str, Any]) -> None:
        self._client = client
        self._service = service
        self._route = route
        self._wanted = wanted
        self._session: str | None = None
        self.has_failed = False

    def go_on(self, session: str) -> None:
        """Show the earlier messages of ``session``."""
        history = self._call("getSessionMessages", {"sessionId": session}, _History)
        self._session = session
        if _is_in_person():
            for message in history.messages:
                speaker = "You" if message.role == "user" else self._service
                click.echo(f"{speaker}: {harmless(message.content)}")

    def send(self, message: str) -> None:
        """Send ``message``, and print the reply as it comes."""
        if self._session is None:
            self._session = self._call("createSession", self._wanted, _Session).session_id
        arguments = {"sessionId": self._session, "message": message}
        accept = f"{STREAM}, application/json"
        with self._client.answer(self._route, arguments, accept=accept, pause=PATIENCE) as (kind, lines):
            printer = _Printer(f"{self._service}: " if _is_in_person() else "")
            try:
                if kind == STREAM:
                    _print_stream(lines, printer)
                else:
                    printer.finish(_decoded(b"".join(lines), _Reply).response_message)
            finally:
                printer.end()

    def tell_session(self) -> None:
        """Say how to go on."""
        if self._session:
            service = "" if self._service == "OpenAI" else f" --service {self._service}"
            click.echo(f"To go on: marketplace chat{service} --session {self._session}", err=True)

    def _call(self, method: str, arguments: dict[str, Any], kind: type[Any]) -> Any:
        answer = self._client.call(f"{SERVICES}/{self._service}/{method}", arguments, timeout=PATIENCE)
        return _decoded(msgspec.json.encode(answer), kind)


class _Printer:
    """Prints a reply in the pieces that come."""

    def __init__(self, speaker: str) -> None:
        self._speaker = speaker
        self._printed = ""
        self._has_begun = False

    def add(self, text: str) -> None:
        """Print a piece."""
        if not self._has_begun:
            click.echo(self._speaker, nl=False)
        self._has_begun = True
        self._printed += text
        click.echo(harmless(text), nl=False)

    def finish(self, reply: str) -> None:
        """Print what is still missing of the whole ``reply``."""
        if reply.startswith(self._printed):
            self.add(reply[len(self._printed) :])
        else:
            self.add(f"\n{reply}")

    def end(self) -> None:
        """End the line, if anything was printed."""
        if self._has_begun:
            click.echo()


def _print_stream(lines: Iterator[bytes], printer: _Printer) -> None:
    for event, data in _events(lines):
        if event == "delta":
            printer.add(_decoded(data, _Delta).text)
        elif event == "message":
            printer.finish(_decoded(data, _Reply).response_message)
            return
        elif event == "error":
            from marketplace.client import HostClient

            raise HostClient.failure(data)
    raise NoHost("The host stopped amid its reply. Whether the turn was stored, --session shows.")


def _events(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the events of a stream with their data; comments are passed over."""
    event, data = "message", list[bytes]()
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value.decode(errors="replace")
        elif field == b"data":
            data.append(value)
        elif not line.rstrip(b"\r\n"):
            if data:
                yield event, b"\n".join(data)
            event, data = "message", []


def _decoded(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoHost(f"The answer is not one to chat with: {error}.") from error
