"""All scenarios, and on which backends each is run."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from tests.reliability.outcomes import Outcome, Size
from tests.reliability.racing import chaos, failover, race
from tests.reliability.sites import SHARED, Site
from tests.reliability.turns import freed, paused, restart
from tests.reliability.waiting import waiting

__all__ = ["SCENARIOS", "Scenario"]


class Scenario(msgspec.Struct, frozen=True):
    """What is done, in a line; ``run`` does it on one of the ``backends``."""

    run: Callable[[Site, Size], Coroutine[Any, Any, Outcome]]
    backends: Sequence[str]
    text: str


SCENARIOS = {
    "race": Scenario(race, SHARED, "all clients at once, through two hosts with two workers each"),
    "chaos": Scenario(
        chaos,
        ["redis", "sqlite", "postgresql", "mariadb"],
        "the same while hosts are killed, servers are restarted, and the upstream is in trouble",
    ),
    "paused": Scenario(paused, SHARED, "the host that has the turn is stopped past its lease, then goes on"),
    "freed": Scenario(freed, SHARED, "the host that has the turn is killed"),
    "failover": Scenario(
        failover, ["cluster"], "a master of a Redis Cluster is killed, and its replica takes over"
    ),
    "restart": Scenario(
        restart, ["redis", "postgresql", "mariadb"], "the store is restarted in the middle of a turn"
    ),
    "waiting": Scenario(
        waiting,
        ["memory", "redis", "sqlite", "postgresql"],
        "many sessions wait for a slow upstream at one process, and others are created",
    ),
}
"""By their names."""
