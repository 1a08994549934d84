"""The install wizard: ask what a product needs, try it, and ask again what was refused.

Each answer comes from the first of: ``--set name=value``, the environment, the person at the terminal,
the default. Where nobody can be asked a missing answer is an error that names the option and the
variable.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from marketplace.errors import (
    InstallRefused,
    InvalidArgument,
    MissingAnswer,
    ServiceError,
)
from marketplace.installs import FromEnvironment, Install
from marketplace.interfaces import Service
from marketplace.manifest import ConfigurationItem, Product, Value
from marketplace.plugins import configure

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

    ``everything`` asks the items too that are usually left at their default.
    """

    options: Mapping[str, str]
    environment: Mapping[str, str]
    person: Person | None
    everything: bool = False


class Wizard:
    """One run of the wizard, for one product."""

    def __init__(self, product: Product, sources: Sources) -> None:
        self._product = product
        self._sources = sources
        self._variables: dict[str, str] = {}
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
                self._try(service, answers, verify=verify)
            except InvalidArgument as error:
                answers = self._ask_again(answers, error)
            except ServiceError as error:
                self._accept_untried(error)
                break
            else:
                break
        return Install(
            product=self._product.name,
            version=self._product.version,
            answers={name: self._kept(name, answer) for name, answer in answers.items()},
        )

    def _answer(self, item: ConfigurationItem) -> Value | None:
        for given in (self._option(item), self._variable(item)):
            if given is not None:
                return given
        person = self._sources.person
        if person and (item.asked or self._sources.everything):
            return person.ask(item, otherwise=self._otherwise(item))
        if item.default is None and item.required:
            ways = " or ".join(self._ways(item))
            raise MissingAnswer(f"{item.label} ({item.name}) has no answer. Give it with {ways}.")
        return item.default

    def _option(self, item: ConfigurationItem) -> Value | None:
        text = self._sources.options.get(item.name)
        return None if text is None else self._parse(item, text)

    def _variable(self, item: ConfigurationItem) -> Value | None:
        text = self._sources.environment.get(item.env, "").strip() if item.env else ""
        if not text or not item.env:
            return None
        self._variables[item.name] = item.env
        self._tell(f"{item.label}: taken from {item.env}.")
        return self._parse(item, text)

    def _parse(self, item: ConfigurationItem, text: str) -> Value:
        try:
            return item.parse(text)
        except InvalidArgument as error:
            raise InstallRefused(f"{item.label} ({item.name}): {error}.") from error

    def _try(self, service: type[Service[Any]], answers: dict[str, Value], *, verify: bool) -> None:
        configuration = configure(service, answers)
        if verify:
            self._tell(f"Trying {self._product.name} with these answers ...")
            asyncio.run(service.check(configuration))

    def _ask_again(self, answers: dict[str, Value], error: InvalidArgument) -> dict[str, Value]:
        item = self._product.item(error.parameter or "")
        person = self._sources.person
        if item is None:
            raise InstallRefused(f"{self._product.name}: {error}.") from error
        variable = self._variables.pop(item.name, None)
        origin = f" (from {variable})" if variable else ""
        if person is None:
            ways = " or ".join(self._ways(item))
            raise InstallRefused(f"{item.label}{origin}: {error}. Change it with {ways}.") from error
        person.tell(f"{item.label}{origin}: {error}.")
        answer = person.ask(item, otherwise=self._otherwise(item))
        if answer is None and item.required:
            return self.trial()
        others = {name: old for name, old in answers.items() if name != item.name}
        return others if answer is None else {**others, item.name: answer}

    def _accept_untried(self, error: ServiceError) -> None:
        text = f"{self._product.name} could not be tried: {error}."
        if self._sources.person is None:
            raise InstallRefused(f"{text} Add --no-verify to install it all the same.") from error
        self._sources.person.tell(text)
        if not self._sources.person.agrees("Install it all the same?"):
            raise InstallRefused("Not installed. Run it again to try once more.") from error

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
        elif self._sources.person:
            ways.insert(0, "the prompt")
        if self._trial and item.required:
            ways.append(f"--trial for the {self._trial.label}")
        return ways

    def _otherwise(self, item: ConfigurationItem) -> str | None:
        if self._trial and item.required:
            return f"tries {self._product.name} without it, with the {self._trial.label}"
        return None

    def _tell(self, text: str) -> None:
        if self._sources.person:
            self._sources.person.tell(text)
