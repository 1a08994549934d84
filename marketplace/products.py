"""Products: what the shop offers, and what each says of itself before any of its code runs."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from marketplace.items import ANSWER, ConfigurationItem, ItemName, Line, Value, repeated
from marketplace.strict_yaml import Mistake
from marketplace.yaml_forms import one_of

__all__ = ["SERVICES", "Contact", "Product", "ProductMethod", "Stored", "Trial"]

SERVICES = "/api/services"
"""The path that all services are mounted under."""

Verb = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


def _pattern(pattern: str, expected: str) -> Meta:
    return Meta(pattern=pattern, extra={"expected": expected})


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class ProductMethod(_Strict, frozen=True, kw_only=True):
    """One method of the service, as the manifest tells it."""

    name: Annotated[
        str,
        _pattern("^[A-Za-z][A-Za-z0-9]*$", "a name such as createSession"),
        Meta(description="What the method is called."),
    ]
    verb: Annotated[Verb, Meta(description="The verb of HTTP that calls it.")]
    route: Annotated[
        str,
        _pattern(r"^/[^\s?#]*$", "a path that begins with /, such as /session"),
        Meta(description="Its path below the service's address."),
    ]
    summary: Annotated[Line, Meta(description="What it does, in a line.")]


class Stored(_Strict, frozen=True, kw_only=True):
    """Something that the service stores."""

    where: Annotated[Line, Meta(description="Such as `cache`, or `database table NAME`.")]
    what: Annotated[Line, Meta(description="What is stored there, in a line.")]


class Contact(_Strict, frozen=True, kw_only=True):
    """A server elsewhere that the service talks to."""

    host: Annotated[
        str,
        _pattern(r"^[A-Za-z0-9*](\.?[A-Za-z0-9_*-]+)*(:[0-9]+)?$", "the name of a host, such as api.example"),
        Meta(description="Its name, with the port unless it is the usual one."),
    ]
    item: Annotated[
        ItemName | None,
        Meta(description="The configuration item that may name another instead."),
    ] = None
    why: Annotated[Line, Meta(description="What for, in a line.")]


class Trial(_Strict, frozen=True, kw_only=True):
    """A way to try the product with nothing in hand."""

    label: Annotated[Line, Meta(description="What the trial is called.")]
    answers: Annotated[
        dict[str, Annotated[Value, ANSWER]],
        Meta(description="The answers that it stands for, by their items."),
    ]


class Product(_Strict, frozen=True, kw_only=True):
    """What the shop offers."""

    name: Annotated[
        str,
        _pattern(
            "^[A-Za-z0-9][A-Za-z0-9._~-]*$",
            "letters, digits and . _ ~ - only, since it is part of the service's address",
        ),
        Meta(description="The name of the product, of its service, and in the service's address."),
    ]
    version: Annotated[Line, Meta(description="The version, in quotes if it looks like a number.")]
    section: Annotated[Line, Meta(description="The section it stands in.")]
    summary: Annotated[Line, Meta(description="What it is, in a line.")]
    description: Annotated[str, Meta(description="What it is, in a few sentences.")] = ""
    plugin: Annotated[
        str,
        _pattern(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", "the name of a module, such as plugins.openai_chat"),
        Meta(description="The module that registers the service."),
    ]
    documentation: Annotated[
        Annotated[str, _pattern(r"^https?://[^\s/?#]+\S*$", "an address that begins with https://")] | None,
        Meta(description="Where to read more."),
    ] = None
    methods: Annotated[list[ProductMethod], Meta(description="The methods of its service.")] = []
    stores: Annotated[list[Stored], Meta(description="What it stores, and where.")] = []
    talks_to: Annotated[list[Contact], Meta(description="All servers elsewhere that it talks to.")] = []
    configuration: Annotated[list[ConfigurationItem], Meta(description="What it asks when it is installed.")]
    trial: Annotated[Trial | None, Meta(description="How to try it with nothing in hand.")] = None
    examples: Annotated[
        list[Line],
        Meta(
            description="Shell lines that work when pasted one after the other;"
            " {url} in them stands for the service's address."
        ),
    ] = []

    def item(self, name: str) -> ConfigurationItem | None:
        """Return the configuration item of that name, if there is one."""
        return next((item for item in self.configuration if item.name == name), None)

    def notice(self, answers: Mapping[str, Any]) -> str | None:
        """Return what has to be said wherever a service with these answers is shown: that it is a trial."""
        if self.trial and self.trial.answers.items() <= answers.items():
            return self.trial.label
        return None

    def examples_at(self, url: str) -> list[str]:
        """Return the examples for a host that answers at ``url``."""
        return [line.replace("{url}", f"{url}{SERVICES}/{self.name}") for line in self.examples]

    def defaults(self) -> dict[str, Value]:
        """Return the answers that stand where nobody gave any."""
        return {item.name: item.default for item in self.configuration if item.default is not None}

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what makes no sense in a manifest; see `Mistake`."""
        for number, item in enumerate(self.configuration):
            yield from (mistake.inside("configuration", number) for mistake in item.mistakes())
        yield from repeated("configuration", "name", [item.name for item in self.configuration])
        yield from repeated("configuration", "env", [item.env for item in self.configuration])
        yield from repeated("methods", "name", [method.name for method in self.methods])
        yield from repeated("methods", "route", [f"{method.verb} {method.route}" for method in self.methods])
        for number, contact in enumerate(self.talks_to):
            if contact.item and not self.item(contact.item):
                yield self._no_item(contact.item, "talksTo", number, "item")
        if self.trial:
            yield from self._trial_mistakes(self.trial)

    def _no_item(self, name: str, *at: str | int, on_key: bool = False) -> Mistake:
        numbers = range(len(self.configuration))
        needs = [("configuration", number, "name") for number in numbers]
        known = one_of(item.name for item in self.configuration) if numbers else "none: there is no item"
        return Mistake(at, f"is no configuration item; expected {known}", needs, on_key)

    def _trial_mistakes(self, trial: Trial) -> Iterator[Mistake]:
        known = {item.name: (number, item) for number, item in enumerate(self.configuration)}
        for name, answer in trial.answers.items():
            if name not in known:
                yield self._no_item(name, "trial", "answers", name, on_key=True)
                continue
            number, item = known[name]
            if why := item.refusal(answer):
                needs = [("configuration", number, key) for key in ("type", "options")]
                yield Mistake(("trial", "answers", name), why, needs)
        for number, item in enumerate(self.configuration):
            if item.required and item.default is None and item.name not in trial.answers:
                needs = [("configuration", number, key) for key in ("name", "required", "default")]
                text = f"expected an answer to {item.name}, which is required"
                yield Mistake(("trial", "answers"), text, needs)
