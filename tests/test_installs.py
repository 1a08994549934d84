"""The remembered installs: private, whole at any instant, and safe against several writers."""

import json
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketplace.errors import InstallsError, MissingAnswer, ProductNotFound
from marketplace.installs import FromEnvironment, Install, InstallsFile


def install(product: str, **answers: object) -> Install:
    return Install(product=product, version="1.0.0", answers=answers)  # type: ignore[arg-type]


class TestContent:
    def test_what_was_saved_is_loaded(self, home: Path) -> None:
        """Values and references to the environment come back as they were."""
        made = install("OpenAI", apiKey=FromEnvironment("OPENAI_API_KEY"), model="m", timeout=60)
        InstallsFile(home).save(made)
        assert InstallsFile(home).load() == {"OpenAI": made}
        stored = json.loads((home / "installs.json").read_text())
        assert stored["installs"][0]["answers"]["apiKey"] == {"$env": "OPENAI_API_KEY"}

    def test_nothing_installed_is_no_file(self, home: Path) -> None:
        """Looking leaves nothing behind."""
        assert InstallsFile(home).load() == {}
        assert not home.exists()

    def test_an_install_is_replaced_and_removed(self, home: Path) -> None:
        """There is one install a product, and the revision tells of every change."""
        file = InstallsFile(home)
        revisions = {file.revision()}
        for made in (install("OpenAI", model="a"), install("Other"), install("OpenAI", model="b")):
            file.save(made)
            revisions.add(file.revision())
        file.remove("Other")
        revisions.add(file.revision())
        assert file.load() == {"OpenAI": install("OpenAI", model="b")}
        assert len(revisions) == 5
        with pytest.raises(ProductNotFound):
            file.remove("Other")

    def test_a_secret_of_the_environment_is_looked_up(self) -> None:
        """Where it is missing the variable is named."""
        made = install("OpenAI", apiKey=FromEnvironment("OPENAI_API_KEY"), model="m")
        assert made.values({"OPENAI_API_KEY": " sk-1\n"}) == {"apiKey": "sk-1", "model": "m"}
        with pytest.raises(MissingAnswer, match="OPENAI_API_KEY"):
            made.values({})

    def test_a_secret_is_not_in_the_repr(self) -> None:
        """A log or a debugger may show an install."""
        assert "sk-1" not in repr(install("OpenAI", apiKey="sk-1"))


class TestFile:
    def test_it_is_its_owners_alone(self, home: Path) -> None:
        """Mode 600 in a folder of mode 700, whatever the umask."""
        old = os.umask(0)
        try:
            InstallsFile(home).save(install("OpenAI"))
        finally:
            os.umask(old)
        assert stat.S_IMODE((home / "installs.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(home.stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
    def test_one_that_others_can_read_is_refused(self, home: Path, mode: int) -> None:
        """The error says how to mend it, and the way it says works."""
        file = InstallsFile(home)
        file.save(install("OpenAI"))
        file.path.chmod(mode)
        with pytest.raises(InstallsError) as refused:
            file.load()
        command = str(refused.value).partition("Run: ")[2]
        subprocess.run(command, shell=True, check=True)
        assert "OpenAI" in file.load()

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"\xff", b'{"format": 1}', b'{"format": 1, "installs": [{"apiKey": "sk-1"}]}'],
    )
    def test_a_damaged_one_is_refused_and_kept(self, home: Path, content: bytes) -> None:
        """Neither reading nor writing loses what may still be mended; no secret is quoted."""
        file = InstallsFile(home)
        file.save(install("OpenAI"))
        file.path.write_bytes(content)
        for attempt in (file.load, lambda: file.save(install("Other")), lambda: file.remove("OpenAI")):
            with pytest.raises(InstallsError, match="damaged") as refused:
                attempt()
            assert "sk-1" not in str(refused.value)
        assert file.path.read_bytes() == content

    def test_one_of_a_newer_marketplace_is_refused(self, home: Path) -> None:
        """It is not overwritten with less than it held."""
        file = InstallsFile(home)
        file.save(install("OpenAI"))
        file.path.write_text('{"format": 2, "installs": []}')
        with pytest.raises(InstallsError, match="newer"):
            file.load()

    def test_a_folder_that_cannot_be_is_told(self, tmp_path: Path) -> None:
        """The path and the system's reason are in the error."""
        (tmp_path / "file").touch()
        file = InstallsFile(tmp_path / "file" / "home")
        with pytest.raises(InstallsError, match="cannot be"):
            file.save(install("OpenAI"))


def _save_many(folder: str, worker: int) -> None:
    for number in range(10):
        InstallsFile(Path(folder)).save(install(f"P{worker}-{number}"))


class TestSafety:
    def test_two_installers_at_once_lose_nothing(self, home: Path) -> None:
        """Each change is made to what the others have left."""
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_save_many, args=(str(home), n)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(InstallsFile(home).load()) == 40

    def test_a_crash_at_any_instant_leaves_a_whole_file(self, home: Path) -> None:
        """After kill -9 the content is that before a change or after it, and the next change works."""
        program = (
            "import sys, itertools; from pathlib import Path;"
            "from marketplace.installs import Install, InstallsFile\n"
            "for n in itertools.count():\n"
            "  answers = {'text': str(n) * 5000}\n"
            "  InstallsFile(Path(sys.argv[1])).save(Install(product='P', version='1', answers=answers))\n"
            "  print(n, flush=True)"
        )
        chance = random.Random(1)
        for _ in range(10):
            with subprocess.Popen(
                [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True
            ) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "0\n"
                time.sleep(chance.random() / 20)
                writer.send_signal(signal.SIGKILL)
            text = InstallsFile(home).load()["P"].answers["text"]
            assert isinstance(text, str)
            assert text == text[: len(text) // 5000] * 5000
        InstallsFile(home).save(install("Q"))
        assert InstallsFile(home).load().keys() == {"P", "Q"}
        assert {path.name for path in home.iterdir()} == {"installs.json", "installs.lock"}
