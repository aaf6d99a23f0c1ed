"""cliport_eval POLICY... --out DIR: roll-outs choose among checkpoints, then say how good it is.

    cliport_eval policies/bowls --out results
    cliport_eval policies/bowls --out results --mode test --task put-block-in-bowl-unseen-colors

A policy is the folder that `cliport_train` wrote, or one checkpoint in it. Every checkpoint plays
the validation tables (odd seeds from 1) of the tasks that it was trained on, or of --val-task; the
one with the greatest mean reward over them, the later of equals, plays the test tables (odd seeds
from 10001) of --task. Nothing on the test tables chooses anything. `DIR/TASK-val-results.json` and
`DIR/TASK-test-results.json` hold every episode; those that are there are not played again, so that
the same command goes on where it was stopped. Policies of other training seeds stand side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from vlm_nodes.clip.encoder import PRECISIONS
from vlm_nodes.cliport.checkpoint import CONFIG_NAME, read_page
from vlm_nodes.cliport.demos import TEST_FROM, seed_of
from vlm_nodes.cliport.results import Results, summary
from vlm_nodes.cliport.rollouts import Job, play_all
from vlm_nodes.command_line import run, say

MODES: Final = ('val', 'test', 'all')


@dataclass(frozen=True)
class Policy:
    """A training, and what is to be evaluated of it.

    Attributes:
        name: That results are kept under.
        checkpoints: Folders, in order of their steps.
    """

    name: str
    checkpoints: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path, last: int | None = None) -> Policy:
        """Of a training's folder or of one checkpoint.

        Args:
            folder: To look into.
            last: Most checkpoints, the latest of them.

        Raises:
            ValueError: There is no checkpoint.
        """
        folder = folder.resolve()
        if (folder / CONFIG_NAME).is_file():
            parent = folder.parent
            name = parent.parent.name if parent.name == 'checkpoints' else parent.name
            return cls(name or folder.name, (folder,))
        found = sorted(path.parent for path in folder.glob(f'checkpoints/*/{CONFIG_NAME}'))
        if not found:
            raise ValueError(
                f'{folder} holds no checkpoint: give the --out of cliport_train, or one of the '
                'folders in its checkpoints'
            )
        return cls(folder.name, tuple(found[-last:] if last else found))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it was trained on."""
        tasks = read_page(self.checkpoints[-1])['training'].get('tasks', ())
        if not tasks:
            raise ValueError(
                f'{self.checkpoints[-1]} does not say what tasks it was trained on: give --task '
                'and --val-task'
            )
        return tuple(tasks)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: there are figures; 2: there are none."""
    options = make_parser().parse_args(arguments)
    return run('cliport_eval', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _check(options)
    policies = [Policy.of(folder, options.last) for folder in options.policy]
    names = [policy.name for policy in policies]
    if len(set(names)) < len(names):
        raise ValueError(f'policies need different names, these are {names}: rename a folder')
    options.out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    for policy in policies:
        figures[policy.name] = evaluate(policy, options)
    say(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def evaluate(policy: Policy, options: argparse.Namespace) -> dict[str, Any]:
    """Choose a checkpoint and test it, as far as the options say.

    Returns:
        `chosen`; `val` with each checkpoint's mean over tasks; `test` with each task's figures.
    """
    val_tasks = tasks_of(options.val_task or policy.tasks, 'val')
    figures: dict[str, Any] = {}
    if options.mode == 'test':
        chosen = _chosen_before(policy, val_tasks, options.out)
    else:
        chosen, figures['val'] = choose(policy, val_tasks, options)
    figures['chosen'] = chosen.name
    if options.mode != 'val':
        tasks = tasks_of(options.task or policy.tasks, 'test')
        figures['test'] = {
            task: play_missing(policy, (chosen,), task, 'test', options)[chosen.name]
            for task in tasks
        }
        for task in tasks:
            _results(options.out, task, 'test').choose(policy.name, chosen.name)
    return figures


def tasks_of(names: Sequence[str], mode: str) -> tuple[str, ...]:
    """Tasks by their full names, and those of sets of tasks; each once.

    Raises:
        ValueError: There is no such task, or the name leaves open which split is meant.
    """
    from vlm_nodes.simulation.tabletop.registry import make_task
    from vlm_nodes.simulation.tabletop.task_sets import task_set, task_set_names

    tasks: list[str] = []
    for name in names:
        if name in task_set_names():
            tasks.extend(task_set(name, mode).tasks)
            continue
        if make_task(name, mode=mode).name != name:
            # Results are kept under full names.
            raise ValueError(f'{name!r} is no full name: say {make_task(name).name!r}')
        tasks.append(name)
    return tuple(dict.fromkeys(tasks))


def choose(
    policy: Policy, tasks: Sequence[str], options: argparse.Namespace
) -> tuple[Path, dict[str, float]]:
    """Play the validation tables; the checkpoint with the best mean, and all means over tasks."""
    played = [play_missing(policy, policy.checkpoints, task, 'val', options) for task in tasks]
    means = {
        path.name: float(np.mean([task[path.name]['mean'] for task in played]))
        for path in policy.checkpoints
    }
    # The later of equals has learned for longer.
    best = max(policy.checkpoints, key=lambda path: (means[path.name], path.name))
    # Of one there is no choice, and none of before is to be overruled by it.
    for task in tasks if len(means) > 1 else ():
        _results(options.out, task, 'val').choose(policy.name, best.name)
    return best, {name: round(mean, 4) for name, mean in means.items()}


def play_missing(
    policy: Policy,
    checkpoints: Sequence[Path],
    task: str,
    mode: str,
    options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Play the episodes that are not there yet.

    Returns:
        Of each checkpoint its figures over the seeds that were asked for.
    """
    results = _results(options.out, task, mode)
    count = options.n if mode == 'test' else options.val_n
    seeds = [seed_of(mode, index) for index in range(count)]
    if mode == 'test' and options.seeds:
        seeds = options.seeds
    jobs = []
    for checkpoint in checkpoints:
        page = read_page(checkpoint)
        training_seed = page['training'].get('seed')
        there = results.enter(policy.name, checkpoint.name, page['weights'], training_seed)
        for index, seed in enumerate(seeds):
            film, pictures = _records(policy, checkpoint, task, mode, seed, index, options)
            if seed not in there or film or pictures:
                jobs.append(_job(checkpoint, task, mode, seed, film, pictures, options))
    bar = tqdm(total=len(jobs), desc=f'{task} {mode}', unit='episode', disable=None)
    with bar:
        for job, result in play_all(jobs, options.workers):
            results.add(policy.name, job.checkpoint.name, result)
            bar.set_postfix_str(f'{job.checkpoint.name} seed {job.seed}: {result.reward:.2f}')
            bar.update()
    return {path.name: summary(results.of(policy.name, path.name, seeds)) for path in checkpoints}


def _results(out: Path, task: str, mode: str) -> Results:
    return Results(Results.path_of(out, task, mode), task, mode)


def _records(
    policy: Policy,
    checkpoint: Path,
    task: str,
    mode: str,
    seed: int,
    index: int,
    options: argparse.Namespace,
) -> tuple[Path | None, Path | None]:
    """The film and the folder of pictures that are still to be made of an episode."""
    folder = options.out / f'{task}-{mode}' / policy.name / checkpoint.name
    film, pictures = folder / f'{seed:06d}.mp4', folder
    is_filmed = index >= options.record or film.is_file()
    is_drawn = index >= options.pictures or (folder / f'{seed:06d}-0.png').is_file()
    return None if is_filmed else film, None if is_drawn else pictures


def _job(
    checkpoint: Path,
    task: str,
    mode: str,
    seed: int,
    film: Path | None,
    pictures: Path | None,
    options: argparse.Namespace,
) -> Job:
    return Job(
        checkpoint,
        task,
        mode,
        seed,
        options.object_dir,
        options.device,
        options.precision,
        options.weights_dir,
        film,
        pictures,
    )


def _chosen_before(policy: Policy, tasks: Sequence[str], out: Path) -> Path:
    """What validation chose; a single checkpoint needs no choice."""
    if len(policy.checkpoints) == 1:
        return policy.checkpoints[0]
    names = {_results(out, task, 'val').chosen(policy.name) for task in tasks}
    by_name = {path.name: path for path in policy.checkpoints}
    if len(names) != 1 or not names <= set(by_name):
        raise ValueError(
            f'validation has chosen no checkpoint of {policy.name} yet in {out}: run cliport_eval '
            'with --mode val first, or give one checkpoint'
        )
    return by_name[str(names.pop())]


def _check(options: argparse.Namespace) -> None:
    for name in ('n', 'val_n', 'workers'):
        if getattr(options, name) < 1:
            raise ValueError(f'--{name.replace("_", "-")} must be at least 1')
    if options.last is not None and options.last < 1:
        raise ValueError(f'--last must be at least 1, got {options.last}')
    if early := [s for s in options.seeds or () if s < TEST_FROM or s % 2 == 0]:
        raise ValueError(f'--seeds {early}: test tables have odd seeds from {TEST_FROM} on')
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f'--out {options.out} is a file: give a folder')
    tasks_of(options.task or (), 'test')
    tasks_of(options.val_task or (), 'val')


def _text(figures: dict[str, Any]) -> str:
    lines = []
    for name, of_policy in figures.items():
        lines.append(f'{name}: {of_policy["chosen"]}')
        for checkpoint, mean in of_policy.get('val', {}).items():
            lines.append(f'  val   {checkpoint:40} mean reward {mean:.3f}')
        for task, found in of_policy.get('test', {}).items():
            low, high = found['mean_interval']
            least, most = found['success_interval']
            lines.append(
                f'  test  {task:40} mean reward {found["mean"]:.3f} [{low:.3f}, {high:.3f}], '
                f'all done in {found["success"]:.2f} [{least:.2f}, {most:.2f}] of {found["count"]}'
            )
    return '\n'.join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `cliport_eval`."""
    parser = argparse.ArgumentParser(
        prog='cliport_eval',
        description='Play simulated tables with trained policies: validation tables choose the '
        'checkpoint, test tables judge it.',
        epilog='Intervals are of 95 %: of the mean reward by bootstrap, of the share of episodes '
        'in which all was done exact binomial (Clopper and Pearson).',
    )
    add = parser.add_argument
    add('policy', type=Path, nargs='+', help='folders of cliport_train, or single checkpoints')
    add('--out', type=Path, required=True, help='folder of results')
    add('--mode', choices=MODES, default='all', help='val, test, or all: one after the other')
    add('--task', nargs='+', help='or sets of tasks, to test on (default: what it was trained on)')
    add('--val-task', nargs='+', help='or sets, to choose by (default: what it was trained on)')
    add('--n', type=int, default=50, help='test tables of a task (default 50)')
    add('--seeds', type=int, nargs='+', help='of the test tables, instead of the first')
    add('--val-n', type=int, default=20, help='validation tables of a task (default 20)')
    add('--last', type=int, metavar='K', help='choose among the last K checkpoints only')
    add('--record', type=int, default=0, metavar='N', help='film the first N episodes')
    add('--pictures', type=int, default=0, metavar='N', help='draw affordances of the first N')
    add('--workers', type=int, default=1, help='processes (default 1)')
    add('--object-dir', type=Path, help='meshes for the tasks that pack objects')
    add('--device', default='cpu', help='of the network (default cpu)')
    add('--precision', choices=sorted(PRECISIONS), default='fp32')
    add('--weights-dir', type=Path, help="folder of fetched weights of the policy's CLIP")
    add('--json', action='store_true', help='print the figures as JSON')
    return parser


if __name__ == '__main__':
    sys.exit(main())
