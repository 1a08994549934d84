"""What a scenario has shown, and how it is printed."""

from collections.abc import Mapping, Sequence

import msgspec

from tests.reliability.judge import Verdict

__all__ = ["Outcome", "Size", "figures_of", "table"]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done in a run; ``limit`` bounds what one scenario takes on one backend, in seconds."""

    sends: int = 10_000
    sessions: int = 100
    waiting: int = 1000
    wait: int = 20
    rounds: int = 3
    seed: int = 1
    limit: float = 600.0
    pace: float = 1.0


class Outcome(msgspec.Struct, frozen=True):
    """The figures of a scenario on a backend, by what they are called, and what may not have been."""

    backend: str
    figures: Mapping[str, object]
    violations: Sequence[str]


def figures_of(verdict: Verdict) -> dict[str, object]:
    """Return what is printed of a verdict."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(verdict.paid_in_vain.items()))
    return {
        "turns": verdict.turns,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "crossed": verdict.crossed,
        "out of order": verdict.out_of_order,
        "billed twice": verdict.billed_twice,
        "paid in vain": reasons or 0,
    }


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes of one scenario as a table in Markdown."""
    heads = ["backend", *outcomes[0].figures, "violations"]
    rows = [[one.backend, *map(str, one.figures.values()), str(len(one.violations))] for one in outcomes]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
