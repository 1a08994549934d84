"""`marketplace new`: what it writes works as it is, in an environment of its own."""

import subprocess
from pathlib import Path

import pytest

from marketplace.errors import SetupError
from marketplace.skeleton import write_skeleton
from tests.copies import Copy
from tests.host import COMMAND, environment, marketplace, serving


def test_it_passes_its_own_tests_and_is_offered_and_served(tmp_path: Path) -> None:
    """Installed as its README says; nothing has to be filled in first, and no other environment knows it."""
    copy, home = Copy(tmp_path / "copy"), tmp_path / "home"
    told = run([*COMMAND, "new", "MyNotes"], tmp_path)
    assert "marketplace install MyNotes" in told
    folder = tmp_path / "my_notes"
    copy.install(folder, "--editable")
    assert "3 passed" in run([copy.python, "-m", "pytest", "-q"], folder)
    listed = marketplace(home, "list", command=copy.command)
    assert "MyNotes 0.1.0  Greets whoever calls" in listed.stdout
    assert listed.stderr == ""
    assert "MyNotes" not in marketplace(home, "list").stdout
    done = marketplace(home, "install", "MyNotes", "--no-input", command=copy.command)
    assert done.returncode == 0, done.stderr
    with serving(home, command=copy.command) as host:
        answer = host.http.post("/api/services/MyNotes/greet", json={"name": "Ada"})
        assert answer.json() == {"text": "Hello, Ada."}


def run(command: list[str], folder: Path) -> str:
    """Run a command in ``folder``, and return what it says."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder / "home"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", ["", "9Lives", "my-notes", "My Notes", "Nötes", "../Notes", "_Notes", "A__B"]
)
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    """It says what a name may be, and nothing is written."""
    with pytest.raises(SetupError, match="begins with a letter"):
        write_skeleton(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["OpenAI", "Class", "Json", "service", "Litestar"])
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    """By a product, by the language, or by a package that could then not be imported any more."""
    with pytest.raises(SetupError, match=r"already\. Choose another name"):
        write_skeleton(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    """Whatever is in it."""
    (tmp_path / "notes").mkdir()
    with pytest.raises(SetupError, match="exists already"):
        write_skeleton("Notes", tmp_path)
    assert list((tmp_path / "notes").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """In a sentence."""
    with pytest.raises(SetupError, match="cannot be written: Not a directory"):
        write_skeleton("Notes", Path(write_skeleton("Lists", tmp_path), "README.md"))


@pytest.mark.parametrize("name", ["No", "Null", "Service1", "Greet", "Router", "Annotated", "my_NOTES2go"])
def test_any_other_name_makes_a_product(name: str, tmp_path: Path) -> None:
    """Though YAML or the written code mean something else by it."""
    folder = write_skeleton(name, tmp_path)
    copied = [path for path in folder.rglob("*") if path.is_file()]
    assert len(copied) == 7
    program = f"from {folder.name}.service import {name}Service as S; import {folder.name}; print(S.name)"
    assert run([COMMAND[0], "-c", program], folder) == f"{name}\n"
