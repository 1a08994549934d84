"""The install wizard: ask what a product needs, try it, and ask again what was refused.

Each answer comes from the first of: ``--set name=value``, the environment, the person at the terminal,
the default. ``--set name=@file`` reads the answer to a TEXT from a file. Where nobody can be asked a missing
answer is an error that names the option and the variable.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from marketplace.errors import (
    InstallRefused,
    InvalidArgument,
    MissingAnswer,
    ServiceError,
    Unavailable,
)
from marketplace.installs import FromEnvironment, Install
from marketplace.interfaces import Doubt, Service
from marketplace.manifest import ConfigurationItem, ItemType, Product, Value
from marketplace.plugins import configure
from marketplace.terminal import warn

__all__ = ["Person", "Sources", "Wizard"]


class Person(Protocol):
    """Whoever sits at the terminal."""

    def ask(self, item: ConfigurationItem, *, otherwise: str | None) -> Value | None:
        """Return an answer to ``item``, or None for Enter alone.

        An item that is required can be left out if ``otherwise`` says what happens then.
        """

    def tell(self, text: str) -> None:
        """Say something."""

    def agrees(self, question: str) -> bool:
        """Return whether the answer to ``question`` is yes."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where answers come from; without a ``person`` nobody can be asked.

    ``everything`` asks the items too that are usually left at their default. ``warn`` tells what has to be
    told even so.
    """

    options: Mapping[str, str]
    environment: Mapping[str, str]
    person: Person | None
    everything: bool = False
    warn: Callable[[str], None] = warn


class Wizard:
    """One run of the wizard, for one product."""

    _verb = "install"
    _nothing_done = "Not installed."

    def __init__(self, product: Product, sources: Sources) -> None:
        self._product = product
        self._sources = sources
        self._variables: dict[str, str] = {}
        self._settled: set[str] = set()
        # A trial that an option contradicts is not offered.
        answered = sources.options.keys()
        self._trial = product.trial if product.trial and not product.trial.answers.keys() & answered else None
        for name in sources.options:
            self._check_option(name)

    def gather(self) -> dict[str, Value]:
        """Return an answer to every item that has one; Enter alone where a key is needed is the trial.

        Raises:
            MissingAnswer: if a required item has none and nobody can be asked.
            InstallRefused: if what was given is no answer to its item.
        """
        self._tell(f"{self._product.name} {self._product.version}: {self._product.summary}")
        answers: dict[str, Value] = {}
        for item in self._product.configuration:
            answer = self._answer(item)
            if answer is not None:
                answers[item.name] = answer
            elif item.required:
                return self.trial()
        return answers

    def trial(self) -> dict[str, Value]:
        """Return the answers of the product's trial, with options and defaults for all other items.

        Raises:
            MissingAnswer: if the product has no trial, or an option contradicts it.
        """
        trial = self._product.trial
        if trial is None:
            raise MissingAnswer(f"{self._product.name} has no trial.")
        if self._trial is None:
            decided = ", ".join(sorted(trial.answers.keys() & self._sources.options.keys()))
            raise MissingAnswer(f"The {trial.label} decides {decided} itself: leave out --set.")
        self._variables.clear()
        options = {item.name: self._option(item) for item in self._product.configuration}
        chosen = {name: answer for name, answer in options.items() if answer is not None}
        return self._product.defaults() | chosen | trial.answers

    def settle(self, service: type[Service[Any]], answers: dict[str, Value], *, verify: bool) -> Install:
        """Try ``answers`` for real, ask anew what is refused, and return the install to remember.

        Raises:
            InstallRefused: if they are refused or cannot be tried, and nobody helps.
        """
        while True:
            try:
                doubts = self._try(service, answers, verify=verify)
            except InvalidArgument as error:
                item = self._product.item(error.parameter or "")
                if item is None:
                    raise InstallRefused(f"{self._product.name}: {error}.") from error
                self._refuse(item, str(error))
            except ServiceError as error:
                self._accept_untried(error)
                break
            else:
                item = self._doubted(doubts)
                if item is None:
                    break
            answers = self._ask_again(item, answers)
        return Install(
            product=self._product.name,
            version=self._product.version,
            answers={name: self._kept(name, answer) for name, answer in answers.items()},
        )

    def _answer(self, item: ConfigurationItem) -> Value | None:
        option = self._option(item)
        if option is not None:
            return option
        try:
            variable = self._variable(item)
        except InvalidArgument as error:
            self._refuse(item, str(error))
            return self._ask(item)
        if variable is not None:
            return variable
        if self._sources.person and (item.asked or self._sources.everything):
            return self._ask(item)
        if item.default is None and item.required:
            ways = " or ".join(self._ways(item))
            raise MissingAnswer(f"{item.label} ({item.name}) has no answer. Give it with {ways}.")
        return item.default

    def _option(self, item: ConfigurationItem) -> Value | None:
        text = self._sources.options.get(item.name)
        if text is None:
            return None
        if item.type is ItemType.TEXT and text.startswith("@"):
            text = _content(item, Path(text[1:]))
        try:
            return item.parse(text)
        except InvalidArgument as error:
            raise InstallRefused(f"{item.label} ({item.name}): {error}.") from error

    def _variable(self, item: ConfigurationItem) -> Value | None:
        text = self._sources.environment.get(item.env, "").strip() if item.env else ""
        if not text or not item.env:
            return None
        self._variables[item.name] = item.env
        answer = item.parse(text)
        self._tell(f"{item.label}: taken from {item.env}.")
        return answer

    def _ask(self, item: ConfigurationItem, *, is_default_refused: bool = False) -> Value | None:
        person = self._sources.person
        self._variables.pop(item.name, None)
        offered = msgspec.structs.replace(item, default=None, required=True) if is_default_refused else item
        return person.ask(offered, otherwise=self._otherwise(item)) if person else None

    def _try(
        self, service: type[Service[Any]], answers: dict[str, Value], *, verify: bool
    ) -> Sequence[Doubt]:
        configuration = configure(service, answers)
        if not verify:
            return ()
        self._tell(f"Trying {self._product.name} with these answers ...")
        try:
            return asyncio.run(service.check(configuration)) or ()
        except ServiceError:
            raise
        except Exception as error:  # what a stranger's error says may quote a secret
            raise Unavailable(f"its plugin failed with {type(error).__name__}") from error

    def _refuse(self, item: ConfigurationItem, why: str) -> None:
        """Tell why the answer to ``item`` cannot stand: the end, where nobody can be asked for another."""
        told = f"{self._named(item)}: {why}."
        if self._sources.person is None:
            raise InstallRefused(f"{told} Change it with {' or '.join(self._ways(item))}.")
        self._sources.person.tell(told)

    def _doubted(self, doubts: Sequence[Doubt]) -> ConfigurationItem | None:
        """Tell the doubts, and return the first item whose answer somebody does not want to keep."""
        person = self._sources.person
        for doubt in doubts:
            item = self._product.item(doubt.parameter or "")
            told = f"{self._named(item) if item else self._product.name}: {doubt.text}."
            if told not in self._settled:
                (person.tell if person else self._sources.warn)(told)
                if person and item and not person.agrees("Keep it all the same?"):
                    return item
            self._settled.add(told)
        return None

    def _ask_again(self, item: ConfigurationItem, answers: dict[str, Value]) -> dict[str, Value]:
        answer = self._ask(item, is_default_refused=answers.get(item.name) == self._offered(item))
        if answer is None and item.required:
            return self.trial()
        others = {name: old for name, old in answers.items() if name != item.name}
        return others if answer is None else {**others, item.name: answer}

    def _accept_untried(self, error: ServiceError) -> None:
        text = f"{self._product.name} could not be tried: {error}."
        if self._sources.person is None:
            raise InstallRefused(f"{text} Add --no-verify to {self._verb} it all the same.") from error
        self._sources.person.tell(text)
        if not self._sources.person.agrees(f"{self._verb.capitalize()} it all the same?"):
            raise InstallRefused(f"{self._nothing_done} Run it again to try once more.") from error

    def _offered(self, item: ConfigurationItem) -> Value | None:
        """Return what Enter alone answers to ``item``."""
        return item.default

    def _kept(self, name: str, answer: Value) -> Value | FromEnvironment:
        item = self._product.item(name)
        if item is not None and item.is_secret and name in self._variables:
            return FromEnvironment(self._variables[name])
        return answer

    def _check_option(self, name: str) -> None:
        item = self._product.item(name)
        if item is None:
            known = ", ".join(i.name for i in self._product.configuration if not i.is_secret)
            raise MissingAnswer(f"{self._product.name} has no item {name!r} to --set; it has {known}.")
        if item.is_secret:
            raise MissingAnswer(
                f"--set {name}=... would show a secret to everybody on this machine."
                f" Give it with {' or '.join(self._ways(item))}."
            )

    def _ways(self, item: ConfigurationItem) -> list[str]:
        ways = [f"the environment variable {item.env}"] if item.env else []
        if not item.is_secret:
            ways.insert(0, f"--set {item.name}=VALUE")
        elif self._sources.person or not ways:
            ways.insert(0, "the prompt")
        if self._trial and item.required:
            ways.append(f"--trial for the {self._trial.label}")
        return ways

    def _named(self, item: ConfigurationItem) -> str:
        """Return the label, with the variable that the answer came from."""
        variable = self._variables.get(item.name)
        return f"{item.label} (from {variable})" if variable else item.label

    def _otherwise(self, item: ConfigurationItem) -> str | None:
        if self._trial and item.required and item.default is None:
            return f"tries {self._product.name} without it, with the {self._trial.label}"
        return None

    def _tell(self, text: str) -> None:
        if self._sources.person:
            self._sources.person.tell(text)


def _content(item: ConfigurationItem, path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    raise MissingAnswer(f"{item.label} ({item.name}): the file {path} {reason}.")
