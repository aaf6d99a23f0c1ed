"""What roll-outs came to: one file a task and mode, every episode in it, with intervals.

    {"task": ..., "mode": "val", "interval": ...,
     "policies": {NAME: {"training_seed": 0, "chosen": "step-000900", "checkpoints": {
         "step-000900": {"weights": SHA-256, "mean": 0.93, "mean_interval": [0.86, 0.98],
                         "success": 0.9, "success_interval": [0.78, 0.97],
                         "episodes": [{"seed": 10001, "reward": 1.0, ...}, ...]}}}},
     "seeds": {"policies": 3, "mean": ..., "sd": ..., "least": ..., "greatest": ...}}

The file is written after every episode, so that whoever was interrupted goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import stats

from bag_tools.whole_file import write_whole
from vlm_nodes.cliport.rollouts import EpisodeResult

CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 10000
INTERVAL: Final = (
    'mean: 95 % percentile bootstrap over the episodes, 10000 resamples from seed 0; '
    'success: 95 % exact binomial (Clopper and Pearson)'
)
FORMAT: Final = 'cliport results'


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean of more such episodes would lie: a percentile bootstrap.

    It has no width where all values are equal; `success_interval` is the one to look at then.

    Raises:
        ValueError: There is no value.
    """
    if not len(values):
        raise ValueError('no episode has no mean')
    return _bootstrap(tuple(float(value) for value in values))


# A file is written after every episode, and most of what it holds is as it was before.
@lru_cache(maxsize=256)
def _bootstrap(values: tuple[float, ...]) -> tuple[float, float]:
    v = np.asarray(values)
    drawn = np.random.default_rng(0).integers(len(v), size=(_RESAMPLES, len(v)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(v[drawn].mean(axis=1), (tail, 100 - tail))
    return float(low), float(high)


def success_interval(successes: int, count: int) -> tuple[float, float]:
    """The exact binomial interval of a share (Clopper and Pearson, 1934).

    Raises:
        ValueError: There is no episode, or more successes than episodes.
    """
    found = stats.binomtest(successes, count).proportion_ci(CONFIDENCE, 'exact')
    return float(found.low), float(found.high)


def summary(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Means and intervals of some episodes, for JSON."""
    rewards = [each.reward for each in episodes]
    successes = sum(each.success for each in episodes)
    return {
        'count': len(episodes),
        'mean': round(float(np.mean(rewards)), 4),
        'mean_interval': _rounded(mean_interval(rewards)),
        'success': round(successes / len(episodes), 4),
        'success_interval': _rounded(success_interval(successes, len(episodes))),
    }


def over_seeds(means: Sequence[float]) -> dict[str, float]:
    """Trainings of several seeds side by side: mean, spread and extremes of their means.

    From two on there is a 95 % interval of the mean over trainings by Student's t.
    """
    found = {
        'policies': len(means),
        'mean': round(float(np.mean(means)), 4),
        'least': min(means),
        'greatest': max(means),
    }
    if len(means) > 1:
        sd = float(np.std(means, ddof=1))
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(means) - 1)) * sd / len(means) ** 0.5
        found |= {'sd': round(sd, 4), 'half_interval': round(half, 4)}
    return found


@dataclass
class _Entry:
    """Of one checkpoint of one policy."""

    weights: str
    training_seed: int | None
    episodes: dict[int, EpisodeResult] = field(default_factory=dict)


class Results:
    """The results of a task in a mode, kept on disk."""

    def __init__(self, path: Path, task: str, mode: str) -> None:
        """Take what the file holds, if there is one.

        Raises:
            ValueError: The file is broken, or of another task or mode.
        """
        self.path, self.task, self.mode = path, task, mode
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._chosen: dict[str, str] = {}
        if path.is_file():
            self._read()

    @staticmethod
    def path_of(folder: Path, task: str, mode: str) -> Path:
        """The file's name as published."""
        return folder / f'{task}-{mode}-results.json'

    def enter(
        self, policy: str, checkpoint: str, weights: str, training_seed: int | None
    ) -> dict[int, EpisodeResult]:
        """The episodes that there are of a checkpoint, by seed.

        Those of other weights under the same name, of a training that was done anew, are dropped.
        """
        entry = self._entries.get((policy, checkpoint))
        if entry is None or entry.weights != weights:
            entry = self._entries[policy, checkpoint] = _Entry(weights, training_seed)
        return entry.episodes

    def add(self, policy: str, checkpoint: str, result: EpisodeResult) -> None:
        """Keep an episode of a checkpoint that was entered, and write the file."""
        self._entries[policy, checkpoint].episodes[result.seed] = result
        self.write()

    def choose(self, policy: str, checkpoint: str) -> None:
        """Say which checkpoint stands for a policy, and write the file."""
        self._chosen[policy] = checkpoint
        self.write()

    def chosen(self, policy: str) -> str | None:
        """The checkpoint that stands for a policy; None where none was chosen."""
        return self._chosen.get(policy)

    def of(self, policy: str, checkpoint: str, seeds: Sequence[int]) -> list[EpisodeResult]:
        """The episodes of some seeds, in their order.

        Raises:
            KeyError: One of them was not played.
        """
        episodes = self._entries[policy, checkpoint].episodes
        return [episodes[seed] for seed in seeds]

    def write(self) -> None:
        """Write the file, whole or not at all."""
        page = json.dumps(self.page(), indent=1, ensure_ascii=False) + '\n'
        write_whole(self.path, page.encode())

    def page(self) -> dict[str, Any]:
        """What the file holds."""
        policies: dict[str, Any] = {}
        for (policy, checkpoint), entry in sorted(self._entries.items()):
            if not entry.episodes:
                continue
            of_policy = policies.setdefault(
                policy,
                {
                    'training_seed': entry.training_seed,
                    'chosen': self._chosen.get(policy),
                    'checkpoints': {},
                },
            )
            episodes = [entry.episodes[seed] for seed in sorted(entry.episodes)]
            of_policy['checkpoints'][checkpoint] = {
                'weights': entry.weights,
                **summary(episodes),
                'episodes': [asdict(each) for each in episodes],
            }
        means = [
            each['checkpoints'][each['chosen']]['mean']
            for each in policies.values()
            if each['chosen'] in each['checkpoints']
        ]
        return {
            'format': FORMAT,
            'task': self.task,
            'mode': self.mode,
            'interval': INTERVAL,
            'policies': policies,
            **({'seeds': over_seeds(means)} if means else {}),
        }

    def _read(self) -> None:
        try:
            page = json.loads(self.path.read_text(encoding='utf-8'))
            about = page['format'], page['task'], page['mode']
            for policy, of_policy in page['policies'].items():
                if of_policy['chosen'] is not None:
                    self._chosen[policy] = of_policy['chosen']
                for checkpoint, entry in of_policy['checkpoints'].items():
                    self._entries[policy, checkpoint] = _Entry(
                        entry['weights'],
                        of_policy['training_seed'],
                        {each['seed']: _result(each) for each in entry['episodes']},
                    )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{self.path} holds no results ({error!r}): delete it, or choose another --out'
            ) from error
        if about != (FORMAT, self.task, self.mode):
            raise ValueError(f'{self.path} holds results of {about}, not of {self.task}')


def _result(page: Mapping[str, Any]) -> EpisodeResult:
    return EpisodeResult(
        page['seed'],
        page['reward'],
        page['success'],
        page['steps'],
        tuple(page['instructions']),
        tuple(page['picked']),
    )


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(value, 4) for value in interval]
