"""Run the scenarios, print their tables, and fail on any violation."""

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from contextlib import ExitStack

from tests.reliability.outcomes import Outcome, Size, table
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.sites import BACKENDS, Site, site_of

SHOWN = 20
"""How many violations are printed of a scenario on a backend."""


def main() -> int:
    """Return 1 if anything happened that may not."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # nothing is left running
    size = Size(sends=options.sends, sessions=options.sessions, seed=options.seed, limit=options.limit)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {size.sends} sends, seed {size.seed}")
    began = time.monotonic()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    has_failed = False
    with ExitStack() as stack:
        sites: dict[str, Site] = {}
        for name in options.only or SCENARIOS:
            scenario = SCENARIOS[name]
            outcomes: list[Outcome] = []
            for backend in scenario.backends:
                if backend not in options.backends:
                    continue
                if backend not in sites:
                    sites[backend] = stack.enter_context(site_of(backend))
                print(f"... {name} on {backend}", file=sys.stderr)
                outcomes.append(asyncio.run(scenario.run(sites[backend], size)))
            if outcomes:
                print(f"\n{name}: {scenario.text}\n\n{table(outcomes)}", flush=True)
            has_failed |= _tell(name, outcomes)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{'Violations' if has_failed else 'No violations'}, after {minutes:.0f} minutes.")
    return int(has_failed)


def _tell(name: str, outcomes: list[Outcome]) -> bool:
    """Print the violations, and return whether there are any."""
    for outcome in outcomes:
        for violation in outcome.violations[:SHOWN]:
            print(f"{name} on {outcome.backend}: {violation}", flush=True)
    return any(outcome.violations for outcome in outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--sends", type=int, default=Size().sends, help="how many messages race")
    parser.add_argument("--sessions", type=int, default=Size().sessions, help="on how many sessions")
    parser.add_argument("--seed", type=int, default=Size().seed, help="of all that is random")
    parser.add_argument(
        "--limit", type=float, default=Size().limit, help="seconds for all sends of a scenario"
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="run these scenarios only")
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="on these backends only"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
