"""Nodes as processes of their own: started, watched, and ended in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_LAST_WORDS = 12


class NodeFailedError(RuntimeError):
    """A node ended by itself, or does not do what it was waited for; the text says which."""


def ros_words(
    parameters: Mapping[str, object], remappings: Mapping[str, str] | None = None
) -> list[str]:
    """The command line words by which a node gets its parameters and remapped names."""
    words = ['--ros-args']
    for name, value in parameters.items():
        words += ['-p', f'{name}:={json.dumps(value)}']
    for name, other in (remappings or {}).items():
        words += ['-r', f'{name}:={other}']
    return words


class NodeProcess:
    """A node in a process of its own, whose output goes to a file."""

    def __init__(
        self, module: str, words: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        """Start it.

        Args:
            module: Python module of the node, run as `python -m`.
            words: Of its command line.
            environment: All of the process's environment.
            log: File for what it says; its stem names the node in errors.
        """
        self.name = log.stem
        self._log = log
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, *words],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """All that it said so far."""
        return self._log.read_text(errors='replace')

    def last_words(self) -> str:
        """The last lines that it said."""
        return '\n'.join(self.output().strip().splitlines()[-_LAST_WORDS:])

    def check(self) -> None:
        """See that it runs, or ended as it should.

        Raises:
            NodeFailedError: It ended with an error; the text holds its last words.
        """
        if self.returncode:
            raise NodeFailedError(
                f'{self.name} ended with status {self.returncode}:\n{self.last_words()}'
            )

    def end(self, patience_s: float = 5.0) -> int:
        """End it as Ctrl-C does; whatever does not end in time is killed.

        Returns:
            Its exit status.
        """
        if self.returncode is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
