"""The wizard for what is installed already: its present answers stand unless they are changed."""

from typing import TextIO

import msgspec

from marketplace.errors import InstallRefused, MissingAnswer
from marketplace.installs import FromEnvironment, Install
from marketplace.manifest import ConfigurationItem, Product, Value
from marketplace.wizard import Sources, Wizard

__all__ = ["Reconfiguration"]


class Reconfiguration(Wizard):
    """One run of the wizard that changes ``install``.

    Each answer comes from the first of: ``--set name=value``, the person at the terminal, the present
    answer, the default. The environment has no say in it, except that a secret which was taken from a
    variable still is. A secret that is set to ``-`` is a line of ``piped``.

    Of a trial that was installed its answers are no present answers: with a key it is left behind as a
    whole, and without one it goes on.
    """

    _verb = "configure"
    _nothing_done = "Nothing has changed."

    def __init__(self, product: Product, sources: Sources, install: Install, *, piped: TextIO) -> None:
        secrets = [item for item in product.configuration if item.is_secret]
        read = [item for item in secrets if sources.options.get(item.name) == "-"]
        self._piped = {item.name: _line(item, piped) for item in read}
        options = {name: text for name, text in sources.options.items() if name not in self._piped}
        super().__init__(product, msgspec.structs.replace(sources, options=options))
        trial = product.trial if product.notice(install.answers) else None
        if trial is None:
            self._trial = None
        self._is_trial = trial is not None
        decided = trial.answers if trial else {}
        self._present = {name: answer for name, answer in install.answers.items() if name not in decided}

    def trial(self) -> dict[str, Value]:
        """Return the answers of the trial, and the present ones to all that it does not decide."""
        answers = super().trial()
        stay = self._present.keys() - self._sources.options.keys()
        items = [item for item in self._product.configuration if item.name in stay]
        kept = {item.name: self._offered(item) for item in items}
        return answers | {name: answer for name, answer in kept.items() if answer is not None}

    def _answer(self, item: ConfigurationItem) -> Value | None:
        if (piped := self._piped.get(item.name)) is not None:
            return piped
        if (given := self._option(item)) is not None or self._is_forgotten(item):
            return given
        is_asked = item.asked or self._sources.everything or self._is_lost(item)
        answer = self._ask(item) if self._sources.person and is_asked else self._offered(item)
        if answer is None and self._is_lost(item):
            variable = self._present[item.name]
            assert isinstance(variable, FromEnvironment)  # noqa: S101 - that is what lost means
            raise MissingAnswer(
                f"{item.label} ({item.name}) was taken from {variable.name}, which is not set here. Set it,"
                f" or give another one with {' or '.join(self._ways(item))}."
            )
        if answer is None and item.required and not self._is_trial:
            ways = " or ".join(self._ways(item))
            raise MissingAnswer(f"{item.label} ({item.name}) has no answer. Give it with {ways}.")
        return answer

    def _ask(self, item: ConfigurationItem, *, is_default_refused: bool = False) -> Value | None:
        """Ask with the present answer as the default, unless that was refused; a secret is not shown."""
        person = self._sources.person
        if person is None:
            return None
        present = None if is_default_refused else self._offered(item)
        self._variables.pop(item.name, None)
        if not item.is_secret:
            required = item.required or is_default_refused
            return person.ask(
                msgspec.structs.replace(item, default=present, required=required), otherwise=None
            )
        keep = f"keeps the present one{self._origin(item)}" if present is not None else self._otherwise(item)
        typed = person.ask(msgspec.structs.replace(item, default=None), otherwise=keep)
        return self._offered(item) if typed is None and present is not None else typed

    def _option(self, item: ConfigurationItem) -> Value | None:
        return item.default if self._is_forgotten(item) else super()._option(item)

    def _is_forgotten(self, item: ConfigurationItem) -> bool:
        """Return whether an optional item was set to nothing: then its present answer goes."""
        return self._sources.options.get(item.name) == "" and not item.required

    def _offered(self, item: ConfigurationItem) -> Value | None:
        """Return the present answer, or else the default; None if its variable is not set."""
        present = self._present.get(item.name, item.default)
        if not isinstance(present, FromEnvironment):
            return present
        value = self._sources.environment.get(present.name, "").strip()
        if value:
            self._variables[item.name] = present.name
        return value or None

    def _is_lost(self, item: ConfigurationItem) -> bool:
        is_elsewhere = isinstance(self._present.get(item.name), FromEnvironment)
        return is_elsewhere and self._offered(item) is None

    def _origin(self, item: ConfigurationItem) -> str:
        present = self._present.get(item.name)
        return f", from {present.name}" if isinstance(present, FromEnvironment) else ""

    def _ways(self, item: ConfigurationItem) -> list[str]:
        if not item.is_secret:
            return [f"--set {item.name}=VALUE"]
        prompt = ["the prompt"] if self._sources.person else []
        return [*prompt, f"--set {item.name}=- and a line on standard input"]

    def _otherwise(self, item: ConfigurationItem) -> str | None:
        if self._trial and item.required:
            return f"keeps the {self._trial.label}"
        return None


def _line(item: ConfigurationItem, piped: TextIO) -> Value:
    if piped.isatty():
        raise MissingAnswer(f"--set {item.name}=- reads a pipe, not the terminal: leave it out to be asked.")
    text = piped.readline().strip()
    if not text:
        raise InstallRefused(f"{item.label} ({item.name}): standard input holds no answer to it.")
    return item.parse(text)
