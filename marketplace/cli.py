"""The `marketplace` command: find the command that is meant, run it, and end with its exit code.

Other packages add commands through the entry-point group ``marketplace.commands``.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from pkgutil import resolve_name
from typing import Any

import rich_click as click

from marketplace.commands import COMMANDS
from marketplace.errors import BadCall, MissingAnswer, SetupError

__all__ = ["main"]

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class _Commands(click.RichGroup):
    """Our commands and those that other packages add; what has to be mended is told in a line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*COMMANDS, *_added_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; only now its module is imported."""
        command: click.Command | None = None
        if cmd_name in COMMANDS:
            command = resolve_name(COMMANDS[cmd_name])
        elif cmd_name in (added := _added_commands()):
            command = added[cmd_name].load()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; 2 is the exit code of a call that has to be changed, 1 of all else."""
        try:
            return _run(super().invoke, ctx)
        except SetupError as error:
            click.echo(f"{ctx.info_name}: {error}", err=True)
            ctx.exit(2 if isinstance(error, BadCall | MissingAnswer) else 1)


def _run(command: Callable[[click.Context], Any], ctx: click.Context) -> Any:
    try:
        return command(ctx)
    except KeyboardInterrupt:
        pass
    except click.Abort as error:
        # A prompt makes one of both Ctrl-C and Ctrl-D; only the first is an interrupt.
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
    click.echo("\nAborted.", err=True)
    return ctx.exit(INTERRUPTED)


def _added_commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="marketplace.commands")}


@click.group(
    cls=_Commands,
    epilog="First steps: marketplace list, marketplace show OpenAI, marketplace install OpenAI,"
    " marketplace serve.",
)
@click.version_option(version("chat-marketplace"), prog_name="marketplace")
def main() -> None:
    """Install services from the marketplace, run them, and call them."""
