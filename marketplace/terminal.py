"""The person at the terminal, asked on standard error so that standard output stays clean."""

import rich_click as click

from marketplace.errors import InvalidArgument
from marketplace.manifest import ConfigurationItem, Value

__all__ = ["Terminal"]


class Terminal:
    """Asks and tells through the terminal; what is secret is not echoed."""

    def ask(self, item: ConfigurationItem, *, otherwise: str | None) -> Value | None:
        """Ask until there is an answer to ``item``; None stands for Enter alone."""
        self.tell("")
        self.tell(item.hint)
        if otherwise:
            self.tell(f"Enter alone {otherwise}.")
        may_be_empty = otherwise is not None or not item.required
        while True:
            answer = self._prompt(item, default="" if may_be_empty else None)
            try:
                return item.parse(answer) if answer else None
            except InvalidArgument as error:
                self.tell(f"{item.label}: {error}.")

    def tell(self, text: str) -> None:
        """Print a line."""
        click.echo(text, err=True)

    def agrees(self, question: str) -> bool:
        """Ask for yes or no; Enter alone is no."""
        return click.confirm(question, default=False, err=True)

    def _prompt(self, item: ConfigurationItem, default: str | None) -> str:
        shown = item.default is not None
        answer: str = click.prompt(
            f"{item.label} (not shown)" if item.is_secret else item.label,
            default=str(item.default) if shown else default,
            show_default=shown,
            hide_input=item.is_secret,
            err=True,
        )
        return answer.strip()
