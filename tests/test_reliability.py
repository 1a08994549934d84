"""The scenarios of `make reliability` in a shorter form, and the judge that they rely on."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.reliability.judge import Trial, Verdict, judge
from tests.reliability.outcomes import Outcome, Size, table
from tests.reliability.scenarios import SCENARIOS
from tests.reliability.sites import SHARED, Site, site_of
from tests.reliability.upstream import Call, digest

DOC = (Path(__file__).parent.parent / "docs" / "reliability.md").read_text()

SHORT = Size(sends=240, sessions=12, waiting=150, wait=5, rounds=1, limit=90, pace=0.6)


@pytest.fixture(scope="module")
def sites() -> Iterator[Mapping[str, Site]]:
    """Servers of the module's own."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(site_of(name)) for name in ["memory", *SHARED]}


class TestScenarios:
    @pytest.mark.parametrize(
        ("name", "backends"),
        [
            ("race", ["redis"]),
            ("chaos", ["postgresql"]),
            ("paused", SHARED),
            ("freed", ["postgresql"]),
            ("failover", ["cluster"]),
            ("restart", ["redis", "postgresql", "mariadb"]),
            ("waiting", ["memory"]),
        ],
        ids=lambda value: value if isinstance(value, str) else "-".join(value),
    )
    def test_nothing_happens_that_may_not(
        self, sites: Mapping[str, Site], name: str, backends: list[str]
    ) -> None:
        """Nothing is lost, doubled, crossed or billed twice, and sessions are free in time."""
        for outcome in asyncio.run(outcomes(name, [sites[backend] for backend in backends])):
            assert not outcome.violations, table([outcome])


async def outcomes(name: str, sites: list[Site]) -> list[Outcome]:
    """Run a scenario on several backends at once: most of it is waiting."""
    return await asyncio.gather(*(SCENARIOS[name].run(site, SHORT) for site in sites))


class Story:
    """A session as it should be, told turn by turn, and then changed."""

    def __init__(self) -> None:
        self.history: list[tuple[str, str]] = []
        self.ledger: list[Call] = []
        self.accepted: dict[str, str] = {}

    def ask(self, prompt: str, at: float, host: str = "host-0") -> str:
        """Have the upstream make a reply that nobody has stored yet."""
        asked = [*self.history, ("user", prompt)]
        call = Call(f"a{len(self.ledger)}", prompt, host, at, is_known=False, done=at + 0.5)
        self.ledger.append(call)
        return f"{call.id} {digest(asked)} {len(asked)} re {prompt}"

    def turn(self, prompt: str, at: float) -> None:
        """Have a prompt answered as it should be."""
        reply = self.ask(prompt, at)
        self.history += [("user", prompt), ("assistant", reply)]
        self.accepted[prompt] = reply

    def verdict(self, **more: object) -> Verdict:
        """Judge it."""
        parts = {"accepted": self.accepted, "histories": [self.history], "ledger": self.ledger}
        return judge(Trial(**{**parts, **more}))  # type: ignore[arg-type]


@pytest.fixture
def story() -> Story:
    """Three turns of two clients."""
    told = Story()
    for at, prompt in enumerate(["s0 c0 n0", "s0 c1 n0", "s0 c0 n1"]):
        told.turn(prompt, float(at))
    return told


class TestJudge:
    def test_a_session_as_it_should_be_is_without_fault(self, story: Story) -> None:
        """All turns are counted, and nothing else."""
        assert story.verdict() == Verdict(turns=3)

    def test_a_turn_that_was_answered_and_is_not_there_is_lost(self, story: Story) -> None:
        """Unless the store may lose some; then it is only counted."""
        del story.history[4:]
        verdict = story.verdict()
        assert (verdict.lost, len(verdict.violations)) == (1, 2)
        assert story.verdict(may_lose=True).lost == 1

    def test_a_turn_that_is_there_twice_is_doubled(self, story: Story) -> None:
        """Wherever it is."""
        story.history += story.history[4:]
        assert story.verdict().doubled == 1

    def test_a_reply_after_another_prompt_is_crossed(self, story: Story) -> None:
        """So is a prompt of another session, and a reply that its caller was not given."""
        story.history[1], story.history[3] = story.history[3], story.history[1]
        assert story.verdict().crossed == 3  # the last one was made for the history as it was

    def test_a_reply_made_for_another_history_is_crossed(self, story: Story) -> None:
        """Its digest tells."""
        del story.history[2:4]
        assert any("another history" in text for text in story.verdict().violations)

    def test_what_a_client_sent_later_comes_later(self, story: Story) -> None:
        """Or it is out of order."""
        story.turn("s0 c1 n2", 3.0)
        story.turn("s0 c1 n1", 4.0)
        assert story.verdict().out_of_order == 1

    def test_who_asks_again_for_what_is_stored_pays_twice(self, story: Story) -> None:
        """Where the reply was asked for after the stored one."""
        story.ask("s0 c0 n0", 9.0)
        assert story.verdict(kills={"host-0": [9.1]}).billed_twice == 1

    def test_a_reply_that_was_lost_on_its_way_is_counted_by_its_reason(self, story: Story) -> None:
        """Without one it is a violation."""
        story.ask("s0 c9 n0", 9.0)
        story.turn("s0 c9 n0", 20.0)
        assert story.verdict().paid_in_vain == {"no reason": 1}
        assert len(story.verdict().violations) == 1
        killed = story.verdict(kills={"host-0": [9.7], "host-1": [3.0]})
        assert (killed.paid_in_vain, killed.violations) == ({"host killed": 1}, [])
        lost = story.verdict(refused={"s0 c9 n0"})
        assert (lost.paid_in_vain, lost.violations) == ({"turn lost": 1}, [])
        away = story.verdict(outages=[(9.2, 11.0)])
        assert (away.paid_in_vain, away.violations) == ({"store away": 1}, [])


class TestDocument:
    def test_its_tables_are_those_of_the_run(self) -> None:
        """It shows every scenario with its table, and none without violations being counted."""
        printed = DOC.partition("```text\n")[2].partition("```")[0]
        shown = dict(re.findall(r"^(\w+): (.*)$", printed, re.MULTILINE))
        assert shown == {name: scenario.text for name, scenario in SCENARIOS.items()}
        for name, scenario in SCENARIOS.items():
            rows = re.findall(
                r"^\| (\w+) ", printed.partition(f"\n{name}: ")[2].partition("\n\n\n")[0], re.MULTILINE
            )
            assert set(scenario.backends) <= set(rows)

    def test_it_explains_every_scenario(self) -> None:
        """Each has a row in the table of scenarios."""
        explained = re.findall(r"^\| `(\w+)` \|", DOC, re.MULTILINE)
        assert explained == list(SCENARIOS)
