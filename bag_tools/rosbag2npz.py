"""rosbag2npz: bags to training episodes on one clock.

Exit codes: 0 every bag is converted whole; 1 a bag gave nothing; 2 the command or its
configuration is wrong; 3 every bag gave something, but some only by --recover.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bag_tools.bag_files import find_bags, output_names
from bag_tools.batch import EXECUTORS, Result, import_engine, run_all
from bag_tools.convert import Job, tool_version
from bag_tools.lerobot_writer import lerobot_dataset
from bag_tools.reader import DISTROS, BagReader, read_definitions
from bag_tools.report import report_data, write_reports
from bag_tools.resume import existing, finished
from bag_tools.robomimic_index import write_index
from bag_tools.scaffold import scaffold
from bag_tools.settings import Settings, SettingsError, default_settings, load_settings
from bag_tools.writers import FORMATS
from vlm_nodes.command_line import USAGE_ERROR, run, say

logger = logging.getLogger(__name__)

CONVERTED, FAILED, USAGE, SALVAGED = 0, 1, USAGE_ERROR, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.ERROR if options.quiet or options.json else logging.INFO,
        format='%(levelname)s: %(message)s',
        stream=sys.stderr,
    )
    if not options.scaffold:
        if not options.bags:
            parser.error('give at least one bag, or --scaffold BAG')
        if options.out is None and not options.dry_run:
            parser.error('--out is needed')
    given = sys.argv[1:] if arguments is None else arguments
    return run('rosbag2npz', lambda: _run(options, shlex.join(['rosbag2npz', *given])))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='rosbag2npz',
        description='Turn recordings into training episodes, every stream on one clock.',
        epilog='exit codes: 0 all converted whole, 1 a bag gave nothing, 2 wrong usage or '
        'configuration, 3 all gave something but some only by --recover',
    )
    add = parser.add_argument
    add('bags', nargs='*', type=Path, metavar='BAG_OR_DIR', help='bags, or folders of bags')
    add('--out', type=Path, metavar='DIR', help='where the episodes and the report go')
    add('--config', type=Path, metavar='YAML', help='streams, clock and policies')
    add('--scaffold', type=Path, metavar='BAG', help='write a configuration from what a bag holds')
    add('--dry-run', action='store_true', help='print what would be made, and write nothing')
    add('--format', action='append', choices=FORMATS, help='npz (default); may be given again')
    add('--compress', type=int, default=0, metavar='LEVEL', help='deflate the .npz: 1 to 9')
    add('--recover', action='store_true', help='salvage what can be had of damaged bags')
    add('--resume', action='store_true', help='pass over bags whose episode is up to date')
    add('--overwrite', action='store_true', help='replace episodes that are there already')
    add('--workers', type=int, default=1, metavar='N', help='bags converted at once')
    add('--executor', choices=EXECUTORS, default='local', help='hand bags to a cluster')
    add('--distro', choices=DISTROS, help='definitions for bags that hold none of their own')
    add('--task', metavar='TEXT', help='what is done in these bags; noted in the metadata')
    add('--json', action='store_true', help='print the report as JSON, and nothing else')
    add('--quiet', action='store_true', help='no progress, errors only')
    return parser


def _run(options: argparse.Namespace, command: str) -> int:
    settings = load_settings(options.config) if options.config else default_settings()
    settings = settings.with_options(options.distro, options.task)
    if options.scaffold:
        return _scaffold(options, settings)
    return _convert(options, settings, command)


def _scaffold(options: argparse.Namespace, settings: Settings) -> int:
    bag, out = options.scaffold, options.out
    with BagReader(bag, distro=settings.distro, recover=options.recover) as reader:
        text = scaffold(reader, settings)
    if out is None:
        say(text.rstrip('\n'))
        return CONVERTED
    target = out / f'{bag.resolve().stem}.yaml' if out.is_dir() else out
    with target.open('x', encoding='utf-8') as file:
        file.write(text)
    say(str(target))
    return CONVERTED


def _convert(options: argparse.Namespace, settings: Settings, command: str) -> int:
    _check(options, settings)
    formats = tuple(dict.fromkeys(options.format or ['npz']))
    bags = find_bags(options.bags)
    jobs = [
        Job(
            bag=bag.resolve(),
            name=name,
            out=(options.out or Path()).resolve(),
            settings=settings,
            formats=formats,
            compress=options.compress,
            recover=options.recover,
            dry_run=options.dry_run,
        )
        for bag, name in zip(bags, output_names(bags), strict=True)
    ]
    if 'lerobot' in formats:
        _check_lerobot(jobs)
    about = {'command': command, 'version': tool_version(), 'started': time.strftime('%F %T %z')}
    results = _convert_all(options, jobs)
    if options.out is not None and not options.dry_run:
        if 'hdf5' in formats:
            write_index(options.out, [job.name for job in jobs])
        page, _ = write_reports(options.out, about, results)
        logger.info('report: %s', page)
    if options.json:
        say(json.dumps(report_data(about, results)))
    return exit_code(results)


def _check(options: argparse.Namespace, settings: Settings) -> None:
    """Refuse what cannot work before hours are spent.

    Raises:
        SettingsError: A number is out of its range.
        BagError: A package is not installed, or there are no definitions where they should be.
    """
    if not 0 <= options.compress <= 9:
        raise SettingsError(f'--compress {options.compress} must be 0 to 9')
    if options.workers < 1:
        raise SettingsError(f'--workers {options.workers} must be at least 1')
    if options.executor != 'local':
        import_engine(options.executor)
    read_definitions(settings.message_folders)


def _check_lerobot(jobs: Sequence[Job]) -> None:
    """Refuse LeRobot datasets that cannot be written: each of their frames has a task in words.

    Raises:
        SettingsError: Bags have no task; the text names them all.
        BagError: The package is not installed.
    """
    missing = [str(job.bag) for job in jobs if not job.task]
    if missing:
        raise SettingsError(
            f'--format lerobot needs to know what is done in {", ".join(missing)}: '
            "give --task TEXT, or record with --custom-data task='TEXT'"
        )
    lerobot_dataset()


def _convert_all(options: argparse.Namespace, jobs: list[Job]) -> list[Result]:
    results: list[Result | None] = [_present(options, job) for job in jobs]
    open_jobs = [
        (i, job) for i, (job, had) in enumerate(zip(jobs, results, strict=True)) if not had
    ]
    for result in results:
        if result is not None:
            _tell(result, options)
    with ExitStack() as stack:
        stack.enter_context(logging_redirect_tqdm())
        bars = stack.enter_context(_Bars([job.name for _, job in open_jobs], _is_silent(options)))
        made = run_all(
            [job for _, job in open_jobs], options.workers, options.executor, bars.message
        )
        for (i, _), result in zip(open_jobs, made, strict=True):
            results[i] = result
            bars.bag()
            _tell(result, options)
    return [result for result in results if result is not None]


def _present(options: argparse.Namespace, job: Job) -> Result | None:
    """The result of a bag that needs no conversion, or cannot have one."""
    there = existing(job)
    if not there or job.dry_run or options.overwrite:
        return None
    if options.resume:
        return finished(job)
    return {
        'bag': str(job.bag),
        'name': job.name,
        'status': 'failed',
        'error': f'{there[0]} exists already: give --resume or --overwrite',
        'salvageable': False,
    }


def _is_silent(options: argparse.Namespace) -> bool:
    return bool(options.quiet or options.json or not sys.stderr.isatty())


class _Bars:
    """A progress bar for the bags, and below it one for each bag at work."""

    def __init__(self, names: list[str], silent: bool) -> None:
        self._names, self._silent = names, silent
        self._total = tqdm(total=len(names), desc='bags', unit='bag', disable=silent)
        self._bars: dict[int, Any] = {}

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()
        self._total.close()

    def message(self, number: int, done: int, total: int) -> None:
        """Messages read of a bag."""
        if self._silent:
            return
        if number not in self._bars:
            self._bars[number] = tqdm(desc=self._names[number], unit='msg', leave=False)
        bar = self._bars[number]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    def bag(self) -> None:
        """A bag is done."""
        self._total.update()


def _tell(result: Result, options: argparse.Namespace) -> None:
    if options.json:
        return
    if result['status'] == 'failed':
        logger.error('%s', result['error'])
        return
    for text in result['recovery']:
        logger.warning('%s: salvaged: %s', result['name'], text)
    for text in result['problems']:
        logger.warning('%s: %s', result['name'], text)
    for name, text in result['absent'].items():
        logger.info('%s: no %s: %s', result['name'], name, text)
    show: Callable[[str], None] = say if options.dry_run else logger.info
    for line in describe(result):
        show(line)


def describe(result: Result) -> list[str]:
    """A result in lines for the terminal."""
    size = result['bytes'] / 1e6
    lines = [
        f'{result["name"]}: {result["status"]}, T = {result["ticks"]} at '
        f'{result["rate_hz"]:.2f} Hz over {result["duration_s"]:.2f} s of '
        f'{result["bag_duration_s"]:.2f} s, {size:.1f} MB'
    ]
    for name, s in result['streams'].items():
        shape = 'x'.join(map(str, s['shape']))
        lines.append(
            f'  {name:<14} {s["topic"]} {shape} {s["policy"]}: {s["read"]} messages at '
            f'{s["rate_hz"]:.2f} Hz, {s["gaps"]} gaps (longest {s["longest_gap_s"]:.3f} s), '
            f'stamped {s["skew_s"] * 1e3:+.1f} ms of receipt, {s["valid_ticks"]} ticks valid'
        )
    return lines


def exit_code(results: Sequence[Result]) -> int:
    """The exit code of a run."""
    kinds = {result['status'] for result in results}
    if 'failed' in kinds:
        return FAILED
    return SALVAGED if any(result.get('recovery') for result in results) else CONVERTED


if __name__ == '__main__':
    raise SystemExit(main())
