"""The upstream's models, and what has to be said of the one that is chosen."""

import datetime
import difflib
import heapq
from collections.abc import Sequence

import msgspec

from marketplace import Doubt, InvalidArgument

__all__ = ["SOON", "Model", "judge"]

SOON = datetime.timedelta(days=90)
"""How long before its end a model is told to be near it."""

MOST = 100
"""How many models are named at most."""


class Model(msgspec.Struct, frozen=True):
    """A model of the upstream; ``shutdown_date`` is the day it ends, in UTC, where one is announced."""

    name: str
    shutdown_date: datetime.date | None = None

    def has_ended(self, today: datetime.date) -> bool:
        """Whether its last day is over."""
        return self.shutdown_date is not None and self.shutdown_date < today

    def ends_soon(self, today: datetime.date) -> bool:
        """Whether its last day is near, or over."""
        return self.shutdown_date is not None and self.shutdown_date - today <= SOON


def judge(chosen: str, models: Sequence[Model], today: datetime.date) -> list[Doubt]:
    """Return what is doubtful about the ``chosen`` model, given all that the upstream lists.

    Raises:
        InvalidArgument: if it is not among them or has ended; the text names those to choose from.
    """
    if not models:
        return [Doubt(f"the upstream lists no models, so {chosen} could not be checked")]
    found = next((model for model in models if model.name == chosen), None)
    choice = _choice(chosen, models, today)
    if found is None:
        text = f"{chosen} is not among the models of this key: {choice}"
        raise InvalidArgument(text, parameter="model")
    if found.has_ended(today):
        text = f"{chosen} was shut down on {found.shutdown_date}. The models of this key: {choice}"
        raise InvalidArgument(text, parameter="model")
    if found.ends_soon(today):
        text = f"{chosen} will be shut down on {found.shutdown_date}. The models of this key: {choice}"
        return [Doubt(text, parameter="model")]
    return []


def _choice(chosen: str, models: Sequence[Model], today: datetime.date) -> str:
    """List the models that have not ended, with the day of those that soon will; of many the most similar."""
    living = {model.name: model for model in models if not model.has_ended(today) and _is_plain(model.name)}
    names = heapq.nlargest(MOST, living, key=lambda name: difflib.SequenceMatcher(None, chosen, name).ratio())
    shown = [
        f"{name} (until {living[name].shutdown_date})" if living[name].ends_soon(today) else name
        for name in sorted(names)
    ]
    more = f" and {len(living) - MOST} more" if len(living) > MOST else ""
    return ", ".join(shown) + more if shown else "none"


def _is_plain(name: str) -> bool:
    """Say whether a name can be shown in a terminal as it is."""
    return name.isprintable() and 0 < len(name) <= MOST
