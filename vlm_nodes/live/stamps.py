from __future__ import annotations

import threading


class StampWatch:
    """Notices streams whose stamps jump back: a simulation that restarts, a bag that loops.

    Messages slightly out of order are no jump. Safe to call from several threads.
    """

    def __init__(self, tolerance_s: float = 1.0) -> None:
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._newest_ns: dict[str, int] = {}
        self._lock = threading.Lock()

    def jumped_back(self, stream: str, stamp_ns: int) -> bool:
        """Whether this stamp lies more than the tolerance before the stream's newest.

        If so all streams begin anew from here, so that one restart is one jump.
        """
        with self._lock:
            newest_ns = self._newest_ns.get(stream, stamp_ns)
            if stamp_ns < newest_ns - self._tolerance_ns:
                self._newest_ns = {stream: stamp_ns}
                return True
            self._newest_ns[stream] = max(newest_ns, stamp_ns)
            return False

    def clear(self) -> None:
        """All streams begin anew."""
        with self._lock:
            self._newest_ns.clear()
