"""Episodes for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TRAIN, TEST = 'train', 'test'
SPLITS = (TRAIN, TEST)


def split_by_task(tasks: Sequence[str], test_share: float, seed: int) -> tuple[bool, ...]:
    """Which episodes are kept for testing: of each task the same share, drawn by seed.

    A task of two episodes or more keeps at least one for testing (where any share is), and at least
    one for training always; a single episode is trained on.

    Args:
        tasks: Task of each episode.
        test_share: Share to keep for testing, at least 0 and below 1.
        seed: Of the draw. The draw of one task does not depend on the other tasks.
    """
    is_test = np.zeros(len(tasks), dtype=np.bool_)
    for task in sorted(set(tasks)):
        members = np.flatnonzero([text == task for text in tasks])
        count = round(test_share * len(members))
        if test_share > 0:
            count = min(max(count, 1), len(members) - 1)
        rng = np.random.default_rng([seed, *task.encode()])
        is_test[rng.permutation(members)[:count]] = True
    return tuple(bool(test) for test in is_test)
