"""What is asked of the planner."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_nodes.cliport.planner import Answer
from vlm_nodes.live.requests import Request


@dataclass(eq=False)
class PlanRequest(Request[Answer]):
    """An instruction under way.

    Attributes:
        instruction: What is asked.
        count: Most candidates.
    """

    instruction: str
    count: int
