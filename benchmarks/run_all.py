"""Every benchmark of this folder, one after another, with its own defaults.

    python benchmarks/run_all.py [--quick] [--out benchmarks/results.md]

Writes a Markdown file with the machine, and of each benchmark its command, how long it took and its
figures. One that fails is said to have failed; the others still run, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS')


@dataclass(frozen=True)
class Outcome:
    """What a benchmark did.

    Attributes:
        command: As it was run, from the repository's root.
        seconds: How long it took.
        figures: What it printed as its last line; None if it failed.
        error: Its last words, if it failed.
    """

    command: str
    seconds: float
    figures: dict[str, float] | None
    error: str = ''


def run(script: Path, arguments: list[str]) -> Outcome:
    """Run a benchmark; what it says on standard error is shown as it comes."""
    words = [str(script.relative_to(ROOT)), *arguments]
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.monotonic() - start_s
    lines = done.stdout.strip().splitlines() or ['']
    command = ' '.join(['python', *words])
    if done.returncode:
        return Outcome(command, seconds, None, f'exit status {done.returncode}: {lines[-1]}')
    try:
        return Outcome(command, seconds, json.loads(lines[-1]))
    except json.JSONDecodeError:
        return Outcome(command, seconds, None, f'its last line is no JSON: {lines[-1]}')


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpus = Path('/proc/cpuinfo').read_text().splitlines()
    model = next((line.split(':')[1].strip() for line in cpus if 'model name' in line), '?')
    gigabytes = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    threads = ', '.join(f'{name}={os.environ.get(name, "unset")}' for name in THREAD_VARIABLES)
    return {
        'Date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'Commit': _git('rev-parse', '--short', 'HEAD')
        + (', with changes' if _git('status', '--porcelain', '--untracked-files=no') else ''),
        'Processor': f'{model}, {len(os.sched_getaffinity(0))} cores',
        'Memory': f'{gigabytes:.0f} GiB',
        'Load at the start': f'{os.getloadavg()[0]:.1f} processes (1 minute)',
        'System': f'{platform.system()} {platform.release()}, Python {platform.python_version()}',
        'Threads': f'{threads}; torch 1 unless a benchmark says otherwise',
    }


def _git(*words: str) -> str:
    done = subprocess.run(['git', *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ('unknown' if done.returncode else '')


def report(about: dict[str, str], outcomes: list[Outcome]) -> str:
    lines = ['# Benchmark results', '', 'Written by `make bench`.', '']
    lines += [f'- {name}: {value}' for name, value in about.items()]
    for outcome in outcomes:
        lines += ['', f'## {outcome.command}', '', f'{outcome.seconds:.0f} s', '']
        if outcome.figures is None:
            lines.append(f'**Failed**: {outcome.error}')
        else:
            lines += ['| key | value |', '|---|---|']
            lines += [f'| `{key}` | {_number(value)} |' for key, value in outcome.figures.items()]
    return '\n'.join([*lines, ''])


def _number(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) and abs(value) < 1e4 else str(value)


def write(path: Path, text: str) -> None:
    part = path.with_name(f'.{path.name}.part')
    part.write_text(text)
    part.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=FOLDER / 'results.md')
    parser.add_argument('--quick', action='store_true', help='smoke runs: figures mean nothing')
    options = parser.parse_args()
    about, outcomes = machine(), []
    scripts = sorted(path for path in FOLDER.glob('*.py') if path != Path(__file__).resolve())
    for script in scripts:
        print(f'{script.name} ...', flush=True)
        outcomes.append(run(script, ['--quick'] if options.quick else []))
        print(json.dumps(outcomes[-1].figures) if outcomes[-1].figures else outcomes[-1].error)
        write(options.out, report(about, outcomes))
    print(f'written: {options.out}')
    return int(any(outcome.figures is None for outcome in outcomes))


if __name__ == '__main__':
    sys.exit(main())
