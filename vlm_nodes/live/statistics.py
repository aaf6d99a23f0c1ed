from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from pathlib import Path

_WINDOW = 50


class Statistics:
    """Counts of what happened and times of what it took, for a node's diagnostics.

    Safe to call from several threads.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._times: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._lock = threading.Lock()

    def count(self, what: str, times: int = 1) -> None:
        """It happened."""
        with self._lock:
            self._counts[what] += times

    def time(self, stage: str, milliseconds: float) -> None:
        """A stage took this long."""
        with self._lock:
            self._times[stage].append(milliseconds)

    def get(self, what: str) -> int:
        """How often it happened."""
        with self._lock:
            return self._counts[what]

    def values(self) -> dict[str, str]:
        """All counts, and the mean of each stage's last 50 times, as texts in order of name."""
        with self._lock:
            counts = {what: str(number) for what, number in sorted(self._counts.items())}
            times = {
                f'ms {stage}': f'{sum(recent) / len(recent):.2f}'
                for stage, recent in sorted(self._times.items())
            }
        return counts | times


def resident_megabytes() -> float:
    """Memory of this process that is in use; NaN where /proc does not tell."""
    try:
        kilobytes = next(
            line.split()[1]
            for line in Path('/proc/self/status').read_text().splitlines()
            if line.startswith('VmRSS')
        )
    except (OSError, StopIteration):
        return float('nan')
    return int(kilobytes) / 1024
