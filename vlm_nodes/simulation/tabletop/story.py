"""What the simulated table tells of an episode: state and last action, as one JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from vlm_nodes.simulation.tabletop.tabletop import Tabletop


@dataclass(frozen=True)
class Story:
    """How an episode goes.

    Attributes:
        episode: Number of the episode since the start, from 1.
        task: Full name.
        mode: train, val or test.
        seed: Of the table.
        commands: Commands that came in this episode, also those that were refused.
        steps: Actions done.
        instruction: What is asked for now; 'done' when nothing is.
        picked: What the last action picked; None if nothing was.
        reward: Of the last action.
        total: Of the episode.
        done: Whether the episode is over.
        success: Whether all that was asked for is done.
        refused: Why the last command was not carried out; '' where it was.
        command_stamp_ns: Stamp of the last command.
        stamp_ns: Of the images that show what is so now.
    """

    episode: int
    task: str
    mode: str
    seed: int
    instruction: str
    stamp_ns: int
    commands: int = 0
    steps: int = 0
    picked: str | None = None
    reward: float = 0.0
    total: float = 0.0
    done: bool = False
    success: bool = False
    refused: str = ''
    command_stamp_ns: int = 0

    def to_json(self) -> str:
        """As a text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Story:
        """The story that a text tells.

        Raises:
            ValueError: It is none.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ValueError(f'{text[:80]!r} tells of no episode on the table: {error}') from error


def truth_of(table: Tabletop) -> str:
    """Where everything is, as a JSON text."""
    bodies = [
        {
            'name': body.name,
            'label': body.label,
            'table_from_body': body.table_from_body.tolist(),
            'is_fixed': body.is_fixed,
        }
        for body in table.truth()
    ]
    return json.dumps({'seed': table.seed, 'task': table.task.name, 'bodies': bodies})
