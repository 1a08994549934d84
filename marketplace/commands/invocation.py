"""`marketplace invoke`: a call of a running service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click
from click.shell_completion import CompletionItem

from marketplace.commands.hosts import completions, found_service, known_names, open_client
from marketplace.errors import BadCall, CallFailed
from marketplace.manifest import SERVICES
from marketplace.output import examples, harmless, show_json

if TYPE_CHECKING:
    from marketplace.client import RemoteMethod, RemoteService

__all__ = ["invoke"]


def _complete_service(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return completions(lambda there: [service.name for service in there], incomplete)


def _complete_method(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    service = context.params.get("service")
    return completions(
        lambda there: [m.name for s in there if s.name == service for m in s.methods], incomplete
    )


def _complete_argument(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    wanted = (context.params.get("service"), context.params.get("method"))
    return completions(
        lambda there: [
            f"{argument.name}="
            for service in there
            for method in service.methods
            for argument in method.arguments
            if (service.name, method.name) == wanted
        ],
        incomplete,
    )


@click.command(
    epilog=examples(
        "marketplace invoke OpenAI createSession persistInDB=true",
        'marketplace invoke OpenAI sendMessage sessionId=ID message="What is AI?"',
        "marketplace invoke OpenAI getSessionMessages sessionId=ID --timeout 5",
    )
)
@click.argument("service", shell_complete=_complete_service)
@click.argument("method", shell_complete=_complete_method)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=_complete_argument)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@click.pass_context
def invoke(
    context: click.Context, service: str, method: str, arguments: tuple[str, ...], timeout: float
) -> None:
    """Call METHOD of SERVICE on a running host, and print its answer as JSON.

    NAME=VALUE is an argument, of the type that the method takes; NAME:=JSON gives it as JSON. The host is
    called at MARKETPLACE_URL, which is http://127.0.0.1:8080 unless it is set.
    """
    client = open_client()
    called = _found_method(found_service(client, service), method)
    values = dict(_argument(text, called) for text in arguments)
    try:
        answer = client.call(f"{SERVICES}/{service}/{method}", values, timeout=timeout)
    except CallFailed as error:
        click.echo(harmless(str(error)), err=True)
        context.exit(1)
    show_json(answer)


def _found_method(service: RemoteService, name: str) -> RemoteMethod:
    method = next((method for method in service.methods if method.name == name), None)
    if method is None:
        raise BadCall(
            f"{service.name} has no method {name!r}.{known_names(name, [m.name for m in service.methods])}"
        )
    return method


def _argument(text: str, method: RemoteMethod) -> tuple[str, Any]:
    """Return the name and the value of an argument as it was typed."""
    written = re.fullmatch(r"([^=:]+)(:?=)(.*)", text, re.DOTALL)
    if written is None:
        raise BadCall(f"{text!r} is no argument: write NAME=VALUE, or NAME:=JSON.")
    name, sign, value = written.groups()
    kind = next((argument.type for argument in method.arguments if argument.name == name), None)
    if kind is None:
        known = known_names(name, [argument.name for argument in method.arguments])
        raise BadCall(f"{method.name} has no argument {name!r}.{known}")
    if sign == "=" and kind == "string":
        return name, value
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError):
        decoded = None if sign == ":=" else value
        if decoded is None:
            raise BadCall(f"{name}:={value} is no JSON. A text is written {name}:='\"text\"'.") from None
    if sign == "=" and not _fits(decoded, kind):
        raise BadCall(f"{name} is {_KINDS.get(kind, f'of type {kind}')}, not {value!r}.")
    return name, decoded


_KINDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "an array: write it as JSON",
    "object": "an object: write it as JSON",
}


def _fits(value: Any, kind: str) -> bool:
    types = {"boolean": bool, "integer": int, "number": int | float, "array": list, "object": dict}
    is_boolean = isinstance(value, bool)
    return is_boolean if kind == "boolean" else isinstance(value, types.get(kind, object)) and not is_boolean
