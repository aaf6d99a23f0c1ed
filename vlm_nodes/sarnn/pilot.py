"""Drives a robot with a policy: one tick at a time, in a thread of the model's own, guarded."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.statistics import Statistics
from vlm_nodes.sarnn.inputs import SECOND_NS, NewestInputs, Snapshot
from vlm_nodes.sarnn.policy import Sensed, Step
from vlm_nodes.sarnn.safety import MOVING, CommandGuard, GuardConfig, GuardState, tell_age

POLICY = 'policy'
"""Name under which the model's own delay is held against the age limits."""


class RefusedError(ValueError):
    """The robot may not be enabled; the text says why and what to do."""


class Drivable(Protocol):
    """What a policy must be able to do."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Of the P joints."""
        ...

    @property
    def lacks_task(self) -> bool:
        """Whether it takes a task and was told none."""
        ...

    def reset(self, *, forget_touch: bool) -> None:
        """Begin anew, with or without new images of touch sensors without contact."""
        ...

    def step(self, sensed: Sensed, *, with_images: bool) -> Step:
        """Predict the next tick."""
        ...


class Robot(Protocol):
    """What takes the pilot's output. Called from several threads, never from two at once."""

    def now_ns(self) -> int:
        """Time on the clock of the stamps."""
        ...

    def send(self, positions: NDArray[np.float64]) -> None:
        """Command the joints."""
        ...

    def show(self, snapshot: Snapshot, sensed: Sensed, step: Step) -> None:
        """Show what the policy attends to and expects; called without the pilot's lock."""
        ...

    def why_silent(self, topic: str) -> str:
        """What keeps an input from coming."""
        ...

    def wants_images(self) -> bool:
        """Whether somebody looks at predicted images."""
        ...

    def changed(self, state: GuardState, reason: str) -> None:
        """The guard's state became another."""
        ...


@dataclass(frozen=True)
class _Tick:
    epoch: int
    began_ns: int


class Pilot:
    """Ticks a policy, and sends what the guard lets through.

    `tick` is to be called at the policy's rate. It only hands over: the model runs in one thread,
    and where that is late, the newest tick waits for it and the late one is counted. Safe to call
    from several threads.

    Args:
        policy: Used from the pilot's thread alone, but for `lacks_task`.
        inputs: Of the policy's streams and joints.
        guard: Its rules; the joints that it names are the ones commanded.
        robot: Where commands go.
        statistics: Counts and times for diagnostics.
        keep_touch: Whether enabling again keeps the touch sensors' images without contact.
        wait_periods: How long a tick waits for inputs that are older than half a period, in
            periods of real time. Simulators send the time first and then its images: without
            waiting each tick would see those of the tick before.
    """

    def __init__(
        self,
        policy: Drivable,
        inputs: NewestInputs,
        guard: GuardConfig,
        robot: Robot,
        statistics: Statistics,
        *,
        keep_touch: bool = False,
        wait_periods: float = 0.0,
    ) -> None:
        self._policy = policy
        self._inputs = inputs
        self._config = guard
        self._robot = robot
        self._statistics = statistics
        self._keep_touch = keep_touch
        self._wait_periods = wait_periods
        self._guard = CommandGuard(guard)
        self._commanded = [policy.joint_names.index(name) for name in guard.limits.names]
        self._lock = threading.RLock()
        self._epoch = 0
        self._epoch_of_policy = 0
        self._forget_touch = False
        self._told = (self._guard.state, self._guard.reason)
        # When the oldest tick began that is neither done nor given up.
        self._waiting_since_ns: int | None = None
        self._trouble = ''
        self._ticked_ns = 0
        self._worker: NewestWorker[_Tick] = NewestWorker(
            self._work, on_error=self._on_error, name='policy'
        )

    @property
    def state(self) -> GuardState:
        """The guard's state."""
        return self._guard.state

    @property
    def reason(self) -> str:
        """Why it is so."""
        return self._guard.reason

    def obstacle(self) -> str:
        """Why it cannot be enabled now; '' where it can."""
        now_ns = self._robot.now_ns()
        ages = self._inputs.ages_s(now_ns)
        known = self._details(now_ns, ages)
        told = [
            tell_age(topic, age_s, known.get(topic, ''))
            for topic, age_s in ages.items()
            if not abs(age_s) <= self._config.hold_after_s
        ]
        if self._policy.lacks_task:
            told.append('this policy needs a task: call set_task first')
        return '; '.join(told)

    def ages_s(self) -> dict[str, float]:
        """Of the inputs, by topic, now."""
        return self._inputs.ages_s(self._robot.now_ns())

    def end(self, timeout_s: float) -> None:
        """Send nothing more and end the thread."""
        self.disable('the node ends')
        self._worker.stop(timeout_s)

    # What users ask for -------------------------------------------------------------------------

    def enable(self) -> str:
        """Begin to move from the measured pose; returns what is to be known about it.

        Raises:
            RefusedError: An input, a joint or the task is missing, or an input is old.
        """
        with self._lock:
            if self._guard.active:
                return 'it is enabled already'
            now_ns = self._robot.now_ns()
            if obstacle := self.obstacle():
                raise RefusedError(obstacle)
            measured = self._inputs.joints()[self._commanded]
            self._begin_anew(forget_touch=not self._keep_touch)
            self._guard.enable(measured, now_ns / SECOND_NS)
            self._tell()
            outside = self._config.limits.outside(measured)
        if outside:
            return f'enabled; outside their limits, and led back slowly: {", ".join(outside)}'
        return 'enabled'

    def disable(self, reason: str) -> None:
        """Send nothing from now on."""
        with self._lock:
            self._guard.disable(reason)
            self._tell()

    def reset(self) -> None:
        """Forget what was seen so far, the touch sensors' images without contact too."""
        with self._lock:
            self._begin_anew(forget_touch=True)
            self._slow_down()

    def begin_task(self) -> None:
        """The policy was told another task: it begins anew, slowly where it moves."""
        with self._lock:
            self._begin_anew(forget_touch=False)
            self._slow_down()

    def restart(self, why: str) -> None:
        """Time began anew: nothing that came before counts, and the robot is elsewhere."""
        with self._lock:
            self._inputs.clear()
            self._begin_anew(forget_touch=True)
            if self._guard.state is not GuardState.DISABLED:
                self._guard.disable(f'{why}: enable again')
                self._tell()

    # Ticks --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at the inputs; hold, or let the model work on them."""
        with self._lock:
            self._tick()
            self._statistics.count('ticks')

    def _tick(self) -> None:
        if not self._guard.active:
            return
        now_ns = self._robot.now_ns()
        self._count_late_ticks(now_ns)
        ages = self._inputs.ages_s(now_ns)
        fresh = all(abs(age_s) <= self._config.hold_after_s for age_s in ages.values())
        waiting_ns = now_ns if self._waiting_since_ns is None else self._waiting_since_ns
        ages[POLICY] = (now_ns - waiting_ns) / SECOND_NS
        held = self._guard.check(ages, now_ns / SECOND_NS, self._details(now_ns, ages))
        self._tell()
        if held is not None:
            self._statistics.count('commands held')
            self._robot.send(held)
        if fresh and self._guard.active:
            self._hand_over(now_ns)
        elif self._worker.idle():
            self._waiting_since_ns = None  # it is the inputs that are waited for

    def _count_late_ticks(self, now_ns: int) -> None:
        last_ns, self._ticked_ns = self._ticked_ns, now_ns
        if last_ns and now_ns - last_ns > 1.5 * self._config.period_s * SECOND_NS:
            self._statistics.count('ticks late')

    def _hand_over(self, now_ns: int) -> None:
        if self._waiting_since_ns is None:
            self._waiting_since_ns = now_ns
        else:
            self._statistics.count('deadline misses')
        # Where the model is at work still, the newest tick waits for it.
        self._worker.offer('', _Tick(self._epoch, now_ns))

    def _work(self, tick: _Tick) -> None:
        with self._lock:
            if tick.epoch != self._epoch:
                return
            if self._epoch_of_policy != self._epoch:
                self._policy.reset(forget_touch=self._forget_touch)
                self._forget_touch = False
                self._epoch_of_policy = self._epoch
        snapshot = self._snapshot(tick)
        streams = self._inputs.streams
        images = {name: streams[name].image(value) for name, value in snapshot.samples.items()}
        sensed = Sensed(images, snapshot.joints)
        step = self._policy.step(sensed, with_images=self._robot.wants_images())
        self._send(tick, snapshot, step)
        self._robot.show(snapshot, sensed, step)

    def _snapshot(self, tick: _Tick) -> Snapshot:
        """The newest inputs, waited for a little where they are of the tick before."""
        period_s = self._config.period_s
        if self._wait_periods > 0:
            of_this_tick_ns = tick.began_ns - round(0.5 * period_s * SECOND_NS)
            self._inputs.wait_until(of_this_tick_ns, self._wait_periods * period_s)
        return self._inputs.snapshot()

    def _send(self, tick: _Tick, snapshot: Snapshot, step: Step) -> None:
        with self._lock:
            if tick.epoch != self._epoch:
                return
            self._waiting_since_ns, self._trouble = None, ''
            now_ns = self._robot.now_ns()
            measured = snapshot.joints[self._commanded]
            limited = self._guard.command(
                step.joints[self._commanded], measured, now_ns / SECOND_NS
            )
            self._tell()
            if limited is None:
                return
            self._robot.send(limited.positions)
            self._statistics.count('commands sent')
            self._statistics.count('position clamps', len(limited.by_position))
            self._statistics.count('velocity clamps', len(limited.by_velocity))
            self._statistics.time('stamp to command', (now_ns - snapshot.oldest_ns) / 1e6)
            self._statistics.time('tick to command', (now_ns - tick.began_ns) / 1e6)

    def _on_error(self, error: Exception) -> None:
        # What is raised of inputs on purpose says all itself.
        said = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
        with self._lock:
            self._trouble = said
        self._statistics.count('ticks failed')

    # Parts --------------------------------------------------------------------------------------

    def _begin_anew(self, *, forget_touch: bool) -> None:
        self._epoch += 1
        self._ticked_ns = 0
        self._forget_touch |= forget_touch
        self._waiting_since_ns, self._trouble = None, ''

    def _slow_down(self) -> None:
        if self._guard.state in MOVING:
            self._guard.ramp(self._robot.now_ns() / SECOND_NS)
            self._tell()

    def _details(self, now_ns: int, ages: dict[str, float]) -> dict[str, str]:
        silent = {t: self._robot.why_silent(t) for t, age_s in ages.items() if math.isinf(age_s)}
        late = self._trouble or (
            f'no result for {ages.get(POLICY, 0.0):.2f} s: is the model too large for this '
            'computer, or are its cores busy?'
        )
        return silent | self._inputs.details(now_ns) | {POLICY: late}

    def _tell(self) -> None:
        now = (self._guard.state, self._guard.reason)
        if now[0] is not self._told[0]:
            self._statistics.count(f'times {now[0].value}')
            self._robot.changed(*now)
        self._told = now
