from __future__ import annotations

import math
import threading


class Throttle:
    """Lets what is said often through once a period, each kind of it by itself.

    Safe to call from several threads.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def due(self, kind: str, now_s: float) -> bool:
        """Whether this kind was not let through within the last period; it then is now."""
        with self._lock:
            if now_s - self._last_s.get(kind, -math.inf) < self._period_s:
                return False
            self._last_s[kind] = now_s
            return True
