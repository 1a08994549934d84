"""`docs/commands.md` shows what the commands show."""

import re
from pathlib import Path

import pytest

from marketplace.commands import COMMANDS
from tests.transcripts import DOCUMENT, run, transcripts


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What the document shows for each command, and what it shows now."""
    found = list(transcripts(DOCUMENT.read_text()))
    shown = run(found, tmp_path_factory.mktemp("transcripts"))
    return {one.command: (one.shown, now) for one, now in zip(found, shown, strict=True)}


@pytest.mark.parametrize("command", [one.command for one in transcripts(DOCUMENT.read_text())])
def test_a_transcript_is_what_the_command_shows(seen: dict[str, tuple[str, str]], command: str) -> None:
    """Each is run anew; `python -m tests.transcripts` writes down what they show now."""
    documented, now = seen[command]
    assert now == documented


def test_every_command_has_one() -> None:
    """Those of the host and of others included."""
    text = DOCUMENT.read_text()
    for name in {*COMMANDS, "serve"}:
        assert re.search(rf"^(\$ )?marketplace {name}\b|`marketplace {name}`", text, re.MULTILINE), name


def test_the_paths_of_this_machine_are_not_in_it() -> None:
    """They are all below /home/you."""
    assert str(Path.home()) not in DOCUMENT.read_text()
