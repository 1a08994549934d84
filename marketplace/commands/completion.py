"""`marketplace completion`: the script that completes what is typed."""

import rich_click as click
from click.shell_completion import get_completion_class

from marketplace.output import examples

__all__ = ["completion"]


@click.command(
    epilog=examples(
        'eval "$(marketplace completion bash)"',
        'eval "$(marketplace completion zsh)"',
        "marketplace completion fish | source",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and names.

    Evaluate it in the file that your shell reads at its start: .bashrc, .zshrc or config.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    root = context.find_root()
    name = "marketplace"
    click.echo(kind(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())
