"""The transcripts of `docs/commands.md`: run them anew at a terminal, in a home and with a host of their own.

A transcript is a ``console`` block: commands after ``$``, and what they showed. What was typed while one ran
is in comments above its block, such as ``<!-- at "You: " type "Hello" -->`` or ``press "d"`` for Ctrl-D.

With ``<!-- at no host -->`` above it a block is run as if there were none.

``python -m tests.transcripts`` writes what the commands show now into the document.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pexpect

from tests.host import NOWHERE, environment, serving

__all__ = ["DOCUMENT", "Transcript", "plain", "run", "transcripts"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "commands.md"

_BLOCK = re.compile(r"((?:^<!-- at [^\n]* -->\n)*)^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ACTION = re.compile(r'<!-- at "(.*?)" (type|press) "(.*?)" -->')
_ALONE = "<!-- at no host -->"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Transcript(msgspec.Struct, frozen=True):
    """One command, what is done at each of its prompts, and what it shows."""

    command: str
    actions: list[tuple[str, str, str]]
    shown: str
    is_alone: bool = False


def transcripts(text: str) -> Iterator[Transcript]:
    """Yield the transcripts of a document, in order; at prompts it is a block's last command that asks."""
    for comments, content in _BLOCK.findall(text):
        commands = re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]
        for number, one in enumerate(commands, 1):
            command, _, shown = one.partition("\n")
            is_last = number == len(commands)
            actions = _ACTION.findall(comments) if is_last else []
            yield Transcript(command, actions, plain(shown), _ALONE in comments)


def plain(text: str) -> str:
    """Return ``text`` without colour, spaces at the ends of lines, and ids that differ from run to run."""
    text = _ID.sub("258cd588-422b-4b7f-b705-d9132e9e1226", _ESCAPE.sub("", text))
    return "\n".join(line.rstrip() for line in text.replace("\r", "").split("\n")).strip("\n")


def run(found: list[Transcript], folder: Path) -> Iterator[str]:
    """Run the commands one after the other in ``folder``, and yield what each shows.

    A host that is served goes on until the end, and is called by all that follows.
    """
    home = folder / ".marketplace"
    url, session = NOWHERE, ""
    with ExitStack() as stack:
        for transcript in found:
            if transcript.command == "marketplace serve":
                host = stack.enter_context(serving(home))
                url = host.url
                host.http.get("/api/services")  # it is up now, however busy the machine is
                assert host.process.stdout is not None
                lines = [f"Serving on {url}\n"]
                while "Ctrl-C" not in lines[-1]:
                    lines.append(host.process.stdout.readline())
                shown = "".join(lines)
            else:
                command = _ID.sub(session, transcript.command) if session else transcript.command
                shown = _at_a_terminal(
                    command, transcript.actions, folder, NOWHERE if transcript.is_alone else url
                )
            session = (_ID.findall(shown) or [session])[-1]
            yield plain(shown.replace(url, "http://127.0.0.1:8080").replace(str(folder), "/home/you"))


def _at_a_terminal(command: str, actions: list[tuple[str, str, str]], folder: Path, url: str) -> str:
    variables = environment(folder / ".marketplace", MARKETPLACE_URL=url, NO_COLOR="1", TERM="xterm")
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    child: pexpect.spawn[str] = pexpect.spawn(
        "sh",
        ["-c", command],
        cwd=str(folder),
        env=variables,
        encoding="utf-8",
        timeout=30,
        dimensions=(60, 100),
    )
    shown = ""
    for prompt, action, text in actions:
        child.expect_exact(prompt)
        shown += f"{child.before}{child.after}"
        (child.sendline if action == "type" else child.sendcontrol)(text)
    child.expect(pexpect.EOF)
    return f"{shown}{child.before}"


def main() -> None:
    """Write what the commands show now into the document."""
    text = DOCUMENT.read_text()
    with tempfile.TemporaryDirectory() as folder:
        shown = run(list(transcripts(text)), Path(folder))

        def anew(block: re.Match[str]) -> str:
            commands = re.findall(r"^\$ .*$", block[2], re.MULTILINE)
            parts = [f"{command}\n{next(shown)}".rstrip() for command in commands]
            return f"{block[1]}```console\n" + "\n".join(parts) + "\n```"

        DOCUMENT.write_text(_BLOCK.sub(anew, text))


if __name__ == "__main__":
    main()
