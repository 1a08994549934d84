"""The chosen model, told truthfully: whether the upstream has it, and for how long."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from marketplace import Doubt, InvalidArgument
from plugins.openai_chat.models import Model, judge
from tests.host import marketplace, without_rights
from tests.test_wizard import KEY_PROMPT, MODEL_PROMPT, Terminal
from tests.upstream import KEY, Behaviour, FakeUpstream, garbled, refusing

TODAY = date(2026, 11, 23)


def in_days(days: int) -> str:
    """Return a date from today, as upstreams write it."""
    return str(datetime.now(UTC).date() + timedelta(days=days))


def model(name: str, days: int | None = None) -> Model:
    return Model(name, None if days is None else TODAY + timedelta(days=days))


class TestJudgement:
    @pytest.mark.parametrize("days", [None, 91, 400])
    def test_a_model_with_time_to_live_is_not_doubted(self, days: int | None) -> None:
        """Nor is one that has no end."""
        assert judge("a", [model("a", days), model("b", -1)], TODAY) == []

    @pytest.mark.parametrize(("days", "day"), [(0, "2026-11-23"), (1, "2026-11-24"), (90, "2027-02-21")])
    def test_one_near_its_end_is_doubted(self, days: int, day: str) -> None:
        """With its last day, and those to choose from: what ends soon is marked, what has ended left out."""
        models = [model("b"), model("a", days), model("c", 2), model("d", -1)]
        text = (
            f"a will be shut down on {day}. The models of this key: a (until {day}), b, c (until 2026-11-25)"
        )
        assert judge("a", models, TODAY) == [Doubt(text, parameter="model")]

    def test_one_that_has_ended_is_refused(self) -> None:
        """Although it is still listed."""
        with pytest.raises(InvalidArgument) as refused:
            judge("a", [model("a", -1), model("b")], TODAY)
        assert str(refused.value) == "a was shut down on 2026-11-22. The models of this key: b"
        assert refused.value.parameter == "model"

    def test_one_that_is_not_listed_is_refused(self) -> None:
        """Where all others have ended, it says that there is none."""
        with pytest.raises(InvalidArgument, match=r"^x is not among the models of this key: none$"):
            judge("x", [model("a", -1)], TODAY)

    def test_of_very_many_the_most_similar_are_named(self) -> None:
        """Nobody reads hundreds; a name that a terminal would obey is not shown."""
        models = [model(f"m{number}") for number in range(300)]
        with pytest.raises(InvalidArgument, match=r"gpt-4o.* and 201 more$") as refused:
            judge("gpt-4p", [*models, model("gpt-4o"), model("\x1b[2J")], TODAY)
        assert "\x1b" not in str(refused.value)


class TestScript:
    def install(self, home: Path, upstream: FakeUpstream, name: str) -> tuple[int, str]:
        """Install with the given model; return the exit code and what was told on standard error."""
        options = ("--set", f"baseUrl={upstream.url}", "--set", f"model={name}")
        done = marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY)
        return done.returncode, without_rights(done.stderr)

    def test_an_unlisted_model_exits_1(self, home: Path, upstream: FakeUpstream) -> None:
        """With those there are and the way to choose one: also where it is the default."""
        upstream.models = ["gpt-4o", "gpt-5", "gpt-old"]
        upstream.shutdown_dates = {"gpt-old": in_days(-1), "gpt-4o": in_days(30)}
        options = ("--set", f"baseUrl={upstream.url}")
        done = marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY)
        assert done.returncode == 1
        assert without_rights(done.stderr) == (
            "marketplace: Default model: gpt-3.5-turbo is not among the models of this key:"
            f" gpt-4o (until {in_days(30)}), gpt-5. Change it with --set model=VALUE or the environment"
            " variable OPENAI_MODEL.\n"
        )
        assert not home.exists()

    def test_one_that_was_shut_down_exits_1(self, home: Path, upstream: FakeUpstream) -> None:
        """With the day, those there are, and the way to choose one."""
        upstream.shutdown_dates = {"gpt-3.5-turbo": in_days(-31)}
        code, told = self.install(home, upstream, "gpt-3.5-turbo")
        assert code == 1
        assert f"gpt-3.5-turbo was shut down on {in_days(-31)}. The models of this key: gpt-4o. " in told
        assert "--set model=" in told

    def test_one_near_its_end_is_a_warning(self, home: Path, upstream: FakeUpstream) -> None:
        """It is installed all the same."""
        upstream.shutdown_dates = {"gpt-4o": in_days(89)}
        code, told = self.install(home, upstream, "gpt-4o")
        assert code == 0
        assert told == (
            f"Default model: gpt-4o will be shut down on {in_days(89)}."
            f" The models of this key: gpt-3.5-turbo, gpt-4o (until {in_days(89)}).\n"
        )

    @pytest.mark.parametrize("value", [None, "soon", 5, {"a": 1}, "2026-13-45"])
    def test_what_is_no_date_is_none(self, home: Path, upstream: FakeUpstream, value: object) -> None:
        """It is no reason to distrust the whole list."""
        upstream.shutdown_dates = {"gpt-4o": value}
        assert self.install(home, upstream, "gpt-4o") == (0, "")

    @pytest.mark.parametrize(
        "listing",
        [
            garbled(b'{"data": []}'),
            garbled(b'{"data": [{"name": "x"}]}'),
            garbled(b'["a"]'),
            garbled(b"<html>"),
            garbled(b'{"data": [{"id": "\xff"}]}'),
            garbled(b"[" * 100_000),
            refusing(404, "/v1/models was not found"),
        ],
        ids=["empty", "other", "bare", "html", "no UTF-8", "deep", "missing"],
    )
    def test_an_upstream_that_lists_none_is_a_warning(
        self, home: Path, upstream: FakeUpstream, listing: Behaviour
    ) -> None:
        """Any model may be there."""
        upstream.listing = listing
        code, told = self.install(home, upstream, "local")
        assert (code, told) == (0, "OpenAI: the upstream lists no models, so local could not be checked.\n")

    def test_the_practice_model_is_not_doubted(self, home: Path) -> None:
        """It has no end, and its base URL works without the trial, too."""
        options = ("--set", "baseUrl=practice:", "--set", "model=practice-model")
        done = marketplace(home, "install", "OpenAI", *options, OPENAI_API_KEY=KEY)
        assert (done.returncode, without_rights(done.stderr)) == (0, "")


class TestTerminal:
    @pytest.mark.parametrize("keep", ["y", "n", ""])
    def test_a_model_near_its_end_may_be_kept(self, home: Path, upstream: FakeUpstream, keep: str) -> None:
        """Enter alone asks for another, and does not offer the same again."""
        upstream.shutdown_dates = {"gpt-3.5-turbo": in_days(5)}
        terminal = Terminal(home, "--set", f"baseUrl={upstream.url}", OPENAI_API_KEY=KEY)
        terminal.see(MODEL_PROMPT)
        terminal.type("")
        terminal.see(f"gpt-3.5-turbo will be shut down on {in_days(5)}")
        terminal.see(r"Keep it all the same\? \[y/N\]: ")
        terminal.type(keep)
        if keep != "y":
            terminal.see("Default model: ")
            terminal.type("gpt-4o")
        assert terminal.end() == 0
        assert terminal.answers()["model"] == ("gpt-3.5-turbo" if keep == "y" else "gpt-4o")

    def test_a_default_that_is_gone_is_not_offered_again(self, home: Path, upstream: FakeUpstream) -> None:
        """Enter alone is no answer then."""
        upstream.models = ["gpt-4o"]
        terminal = Terminal(home, "--set", f"baseUrl={upstream.url}")
        terminal.see(KEY_PROMPT)
        terminal.type(KEY)
        terminal.see(MODEL_PROMPT)
        terminal.type("")
        terminal.see("gpt-3.5-turbo is not among the models of this key: gpt-4o")
        terminal.see("Default model: ")
        terminal.type("")
        terminal.see("Default model: ")
        terminal.type("gpt-4o")
        assert terminal.end() == 0
        assert terminal.answers()["model"] == "gpt-4o"
