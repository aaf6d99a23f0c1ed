"""CLIPort from nothing: demonstrations, training, and closed-loop tests of what was learned.

    python benchmarks/cliport_learn.py [--seeds 10001 10003 ...] [--data DIR] [--policy DIR]

As a user would, by the commands of docs/cliport.md: `cliport_demos` records 100 demonstrations of
each of two tasks in their seen colours, `cliport_train` trains a policy of each on them (the small
configuration, the `tiny` CLIP, both at the same time on one core each), `cliport_eval` has the
validation tables choose a checkpoint, and the test tables judge it. Unseen colours choose nothing:
the policy of put-block-in-bowl that its seen colours chose is tested on them as it is.

    seen                  mean reward on test tables of put-block-in-bowl-seen-colors
    unseen                of put-block-in-bowl-unseen-colors
    second_task           of towers-of-hanoi-seq-seen-colors, of which a move is worth 1/7
    *_success             share of these episodes in which all was done
    *_low, *_high         95 % interval of that share (Clopper and Pearson)
    follows_wrong_colour  put-block-in-bowl with another colour said than the table asks for, of the
                          block or of the bowl in turn, of a thing that is there: share of episodes
                          whose first action goes to the colour that was said
    ignores_wrong_colour  the share in which it does what the table asks for nevertheless
    follows_whole         the share in which both block and bowl are the ones that were said
    train_minutes         wall time of both trainings together on this machine; of a --policy that
                          was trained before, the sum of what its trainings took

Goals: seen 0.90, unseen 0.50, second_task 0.70, train_minutes at most 60 on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vlm_nodes.cliport.demos import TEST_FROM, heightmap_of, seed_of
from vlm_nodes.cliport.policy import CliportPolicy
from vlm_nodes.cliport.poses import poses_of_labels
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.simulation.tabletop import Tabletop, make_task
from vlm_nodes.simulation.tabletop.cameras import Cameras
from vlm_nodes.simulation.tabletop.colors import TRAIN_COLORS
from vlm_nodes.simulation.tabletop.put_block_in_bowl import TOLERANCE_M

SEEN: Final = 'put-block-in-bowl-seen-colors'
UNSEEN: Final = 'put-block-in-bowl-unseen-colors'
SECOND: Final = 'towers-of-hanoi-seq-seen-colors'
EPISODES: Final = 50
# Of the optimiser, and how many lie between two checkpoints.
STEPS: Final = {SEEN: (900, 150), SECOND: (800, 200)}
# Checkpoints and validation tables to choose by; an episode of the second task has seven actions.
CHOICE: Final = {SEEN: (3, 20), SECOND: (2, 8)}


@dataclass(frozen=True)
class Told:
    """A table and what is said of it in place of what it asks for."""

    seed: int
    colors: tuple[str, str]
    said: tuple[str, str]

    @property
    def instruction(self) -> str:
        """What is said."""
        return 'put the {} blocks in a {} bowl'.format(*self.said)


def test_seed(number: int) -> int:
    """A seed of test tables, which no demonstration has, for any number."""
    is_one = number >= TEST_FROM and number % 2 == 1
    return number if is_one else seed_of('test', number)


def command(module: str, *words: object) -> list[str]:
    """A command of the package, by its module."""
    return [sys.executable, '-m', f'vlm_nodes.cliport.{module}', *map(str, words)]


def run(*words: str) -> str:
    """Run it; what it prints."""
    print('$', *words[2:], file=sys.stderr, flush=True)
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_data(folder: Path, options: argparse.Namespace) -> None:
    train, val = (2, 1) if options.quick else (100, 20)
    for task in (SEEN, SECOND):
        for mode, count in (('train', train), ('val', val)):
            words = [f'task={task}', f'n={count}', f'mode={mode}', '--out', folder]
            run(*command('demos', *words, '--workers', 1 if options.quick else options.workers))


def train(data: Path, out: Path, options: argparse.Namespace) -> float:
    """Both policies at the same time, a core each: wall time in minutes."""
    started_s, running = time.monotonic(), []
    for task, (steps, every) in STEPS.items():
        if options.quick:
            steps, every = 1, 1
        words = [data / f'{task}-train', '--val', data / f'{task}-val', '--out', out / task]
        words += ['--size', 'small', '--steps', steps, '--val-every', every, '--threads', 1]
        words += ['--seed', options.training_seed]
        line = command('train', *words)
        print('$', *line[2:], file=sys.stderr, flush=True)
        running.append(subprocess.Popen(line, stdout=sys.stderr))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f'training failed with exit status {codes}')
    return (time.monotonic() - started_s) / 60


def trained_minutes(policies: Path) -> float:
    """What trainings of before took, by what they wrote down."""
    pages = [policies / task / 'figures.json' for task in STEPS]
    return float(sum(json.loads(page.read_text())['minutes'] for page in pages))


def evaluate(
    policy: Path, tested: Sequence[str], out: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of `cliport_eval`."""
    last, tables = CHOICE[policy.name]
    words: list[object] = [policy, '--out', out, '--task', *tested, '--seeds', *options.seeds]
    words += ['--last', 1 if options.quick else last, '--val-n', 1 if options.quick else tables]
    words += ['--workers', 1 if options.quick else options.workers, '--json']
    found: dict[str, Any] = json.loads(run(*command('evaluate', *words)))[policy.name]
    return found


def told_otherwise(table: Tabletop, number: int, rng: np.random.Generator) -> Told | None:
    """Another colour for the block or, every other time, the bowl; None if there is no other.

    Colours are of the training, and of things of that kind that stand on the table.
    """
    words = table.instruction.split()
    colors = words[2], words[-2]
    labels = {body.label for body in table.truth()}
    for part in (number % 2, 1 - number % 2):
        kind = ('block', 'bowl')[part]
        others = [
            color for color in TRAIN_COLORS if color not in colors and f'{color} {kind}' in labels
        ]
        if others:
            other = str(rng.choice(others))
            said = (other, colors[1]) if part == 0 else (colors[0], other)
            return Told(table.seed, colors, said)
    return None


def goes_to(policy: CliportPolicy, table: Tabletop, told: Told) -> tuple[str | None, set[str]]:
    """Label of the block that is picked up, and of the bowls that it ends up in."""
    workspace = Workspace()
    plan = policy.plan(heightmap_of(table.observe(), workspace), told.instruction)
    poses = poses_of_labels(workspace, plan.best.pick, plan.best.place)
    _, _, info = table.step(*poses)
    bodies = {body.name: body for body in table.truth()}
    if info.picked is None:
        return None, set()
    picked = bodies[info.picked]
    bowls = {
        body.label
        for body in bodies.values()
        if body.label.endswith('bowl')
        and body is not picked
        and np.hypot(*(body.table_from_body - picked.table_from_body)[:2, 3]) < TOLERANCE_M
    }
    return picked.label, bowls


def wrong_colour(policy: CliportPolicy, seeds: Sequence[int]) -> dict[str, float]:
    """First actions on tables of which something else is said."""
    task, rng = make_task(SEEN, mode='test'), np.random.default_rng(5)
    follows, ignores, whole = [], [], []
    with Cameras() as cameras:
        for number, seed in enumerate(seeds):
            table = Tabletop(task, seed, cameras)
            table.reset()
            told = told_otherwise(table, number, rng)
            if told is None:
                continue
            block, bowls = goes_to(policy, table, told)
            part = int(told.said[0] == told.colors[0])
            done = [
                (block == f'{colors[0]} block', f'{colors[1]} bowl' in bowls)
                for colors in (told.said, told.colors)
            ]
            follows.append(done[0][part])
            ignores.append(done[1][part])
            whole.append(all(done[0]))
            if not whole[-1]:
                print(
                    f'seed {seed}: told {told.instruction!r}: took {block}, to {bowls or "none"}',
                    file=sys.stderr,
                )
    if not follows:
        # With a table or two, as in a smoke run, there may be no other colour to say.
        return {'wrong_colour_episodes': 0, 'follows_wrong_colour': 0.0}
    return {
        'wrong_colour_episodes': len(follows),
        'follows_wrong_colour': float(np.mean(follows)),
        'ignores_wrong_colour': float(np.mean(ignores)),
        'follows_whole': float(np.mean(whole)),
    }


def figures_of(name: str, found: dict[str, Any]) -> dict[str, float]:
    low, high = found['success_interval']
    return {
        name: found['mean'],
        f'{name}_success': found['success'],
        f'{name}_low': low,
        f'{name}_high': high,
    }


def measure(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix='cliport_learn_') as name:
        folder = Path(name)
        policies, out = options.policy or folder / 'policies', options.out or folder / 'results'
        if options.policy is None:
            data = options.data or folder / 'data'
            if options.data is None:
                make_data(data, options)
            minutes = train(data, policies, options)
        else:
            minutes = trained_minutes(policies)
        first = evaluate(policies / SEEN, (SEEN, UNSEEN), out, options)
        second = evaluate(policies / SECOND, (SECOND,), out, options)
        chosen = policies / SEEN / 'checkpoints' / first['chosen']
        return {
            **figures_of('seen', first['test'][SEEN]),
            **figures_of('unseen', first['test'][UNSEEN]),
            **figures_of('second_task', second['test'][SECOND]),
            **wrong_colour(CliportPolicy.load(chosen), options.seeds),
            'train_minutes': minutes,
            'episodes': len(options.seeds),
            'first_seed': options.seeds[0],
            'training_seed': options.training_seed,
            'chosen_step': float(first['chosen'].rpartition('-')[2]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [seed_of('test', index) for index in range(EPISODES)]
    seeds = (
        f'of test tables, which are odd and from {TEST_FROM} on; of other numbers, n is the nth '
        f'table after the first (default: the first {EPISODES})'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=default, help=seeds)
    parser.add_argument('--training-seed', type=int, default=0)
    parser.add_argument('--data', type=Path, help='demonstrations that were recorded before')
    parser.add_argument('--policy', type=Path, help='folder with the policies of a run before')
    parser.add_argument('--out', type=Path, help='folder to keep the results of episodes in')
    parser.add_argument('--workers', type=int, default=2, help='processes that play (default 2)')
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if negative := [seed for seed in options.seeds if seed < 0]:
        parser.error(f'--seeds {negative}: seeds are not negative')
    options.seeds = list(dict.fromkeys(map(test_seed, options.seeds)))
    if options.quick:
        options.seeds = options.seeds[:1]
    figures = measure(options)
    print(json.dumps({name: round(float(value), 4) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
