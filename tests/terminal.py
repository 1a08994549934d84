"""Somebody at a terminal who gives a command and answers what it asks."""

from pathlib import Path

import pexpect

from tests.host import COMMAND, environment

__all__ = ["Terminal"]


class Terminal:
    """A `marketplace` command at a terminal of 100 columns; ``seen`` is all that it has shown."""

    def __init__(self, home: Path, *arguments: str, timeout: float = 15, **more: str) -> None:
        self.child: pexpect.spawn[str] = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            env=environment(home, **{"TERM": "xterm-256color", **more}),
            encoding="utf-8",
            timeout=timeout,
            dimensions=(60, 100),
        )
        self.seen = ""

    def see(self, pattern: str) -> None:
        """Wait until ``pattern`` is shown."""
        self.child.expect(pattern)
        self.seen += f"{self.child.before}{self.child.after}"

    def type(self, text: str) -> None:
        """Type a line."""
        self.child.sendline(text)

    def press(self, key: str) -> None:
        """Press Ctrl and ``key``."""
        self.child.sendcontrol(key)

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        self.child.expect(pexpect.EOF)
        self.seen += str(self.child.before)
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)
