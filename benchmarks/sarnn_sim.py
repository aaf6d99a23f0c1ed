"""A policy from nothing: recorded, trained, and run on the live graph in scenes it never saw.

    python benchmarks/sarnn_sim.py [--seeds 1000001 1000003 ...] [--data DATA] [--policy FILE]

As a user would, by the commands of docs/arm.md: `record_arm` has a scripted expert do three tasks
in scenes of training seeds and records the topics, `rosbag2npz` and `make_dataset` make a data set,
`train_clip_sarnn` a policy. Then, for every held-out seed and every task, sim_arm_node sets the
scene, policy_node is told the task and enabled, and the simulator judges. The scene is the same
for all three tasks: only the words tell them apart.

    success                 share of episodes that the simulator calls done
    success_TASK            the same for one task
    success_shuffled_text   the policy is told one of the three tasks at random, the simulator
                            judges the task of before: chance is a third of `success`
    shuffled_text_right     share of those episodes in which the task drawn was the right one
    success_no_touch        of the pushing task, with the fingertip's camera showing no contact all
                            the time; compare with `success_touch`, the same task with touch
    train_minutes           wall time of training on this machine
    episodes                held-out episodes with the right text

An episode ends when it is done or spoilt, or after 12 simulated seconds. policy_node runs with its
defaults but for the command's type, the speed limit, which is above the expert's, and that it waits
for late images. The simulation waits for each command for a while (lockstep): what is measured is
the policy, not how busy the computer is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vlm_interfaces.srv import SetTask

from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.node import LATCHED
from vlm_nodes.simulation.arm.tasks import FIRST_HELD_OUT_SEED, PUSH, TASKS, held_out_seed

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_S, LONGEST_S = 120.0, 12.0
COMMAND_PATIENCE_S = 0.3
SPEED_LIMIT = 3.0
TRAINING = {
    '--target': 'actions',
    '--batch_size': 5,
    '--epoch': 15,
    '--image_share': 0.1,
    '--clip_image_size': 128,
    '--precision': 'bf16',
}


def tool(name: str, *words: object, fine: tuple[int, ...] = (0,)) -> None:
    """Run one of the package's commands; its output goes to stderr."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, words)]
    print('$', name, *words, file=sys.stderr, flush=True)
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode not in fine:
        raise SystemExit(f'{name} ended with status {done.returncode}')


def make_data(folder: Path, episodes: int, workers: int) -> Path:
    """Record training episodes and make a data set of them."""
    bags, npz, data = folder / 'bags', folder / 'npz', folder / 'data'
    config = REPOSITORY / 'config' / 'rosbag2npz_arm.yaml'
    # 1: the expert failed in an episode, which is then not recorded.
    words = ['--episodes', episodes, '--out', bags, '--workers', workers]
    tool('record_arm', *words, fine=(0, 1))
    tool('rosbag2npz', bags, '--out', npz, '--config', config, '--workers', workers)
    tool('make_dataset', npz, '--out', data, '--test-share', 0.1)
    return data


def train(data: Path, folder: Path, changes: dict[str, object]) -> Path:
    """Train a policy without depth; returns its file."""
    words = [word for option in (TRAINING | changes).items() for word in option]
    tool('train_clip_sarnn', '--data', data, '--log', folder, '--tag', 'arm', '--no_depth', *words)
    return folder / 'arm' / 'policy.safetensors'


class Run:
    """sim_arm_node and policy_node in a graph, an episode after the other."""

    def __init__(
        self, graph: LiveGraph, policy: Path, options: argparse.Namespace, touch: bool = True
    ) -> None:
        self.graph = graph
        self.longest_s = 1.0 if options.quick else LONGEST_S
        self.story: dict[str, Any] = {}
        self._untouched: Image | None = None
        pace = {'realtime_factor': options.speed, 'wait_for_command_s': COMMAND_PATIENCE_S}
        graph.start('sim_arm', 'vlm_nodes.simulation.arm.node', pace)
        gelsight = 'gelsight1/image_raw' if touch else 'no_contact'
        graph.start(
            'policy',
            'vlm_nodes.sarnn.node',
            {
                'checkpoint': str(policy),
                'command_type': 'joint_state',
                'max_velocity': SPEED_LIMIT,
                'wait_periods': 1.0,
                'use_sim_time': True,
            },
            remappings={'gelsight1': gelsight},
        )
        self._told = graph.node.create_subscription(
            String, 'sim_arm_node/outcome', self._on_outcome, LATCHED
        )
        if not touch:
            self._blank = graph.node.create_publisher(Image, 'no_contact', 10)
            self._felt = graph.node.create_subscription(
                Image, 'gelsight1/image_raw', self._on_touch, 10
            )

    def episode(self, seed: int, task: str, told: str) -> bool:
        """Whether the simulator calls the task done, when the policy is told `told`."""
        self._ask(SetBool, 'policy_node/enable', SetBool.Request(data=False))
        parameters = [Parameter('seed', value=seed), Parameter('task', value=task)]
        request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
        self.graph.call(SetParameters, 'sim_arm_node/set_parameters', request)
        answer = self._ask(Trigger, 'sim_arm_node/reset', Trigger.Request())
        number = json.loads(answer.message)['episode']
        self._ask(SetTask, 'policy_node/set_task', SetTask.Request(text=told))
        self.graph.wait(
            lambda: self.story.get('episode') == number and self.story['tick'] >= 3,
            PATIENCE_S,
            f'episode {number}',
        )
        self._enable()
        start_ns = self.story['stamp_ns']
        self.graph.wait(
            lambda: (
                self.story['success']
                or self.story['failed']
                or self.story['stamp_ns'] - start_ns > self.longest_s * 1e9
            ),
            PATIENCE_S,
            'the end of the episode',
        )
        story = dict(self.story)
        print(f'{seed} {task!r}, told {told!r}: {story["reason"]}', file=sys.stderr, flush=True)
        return bool(story['success'])

    def _enable(self) -> None:
        """Enable the policy, as soon as it hears all that it needs."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._ask(SetBool, 'policy_node/enable', SetBool.Request(data=True))
                return
            except RuntimeError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.2)

    def _ask(self, kind: Any, name: str, request: Any) -> Any:
        answer, _ = self.graph.call(kind, name, request)
        if not answer.success:
            raise RuntimeError(f'{name}: {answer.message}')
        return answer

    def _on_outcome(self, message: String) -> None:
        self.story = json.loads(message.data)

    def _on_touch(self, message: Image) -> None:
        """What is felt, replaced by the first image, of before any contact."""
        self._untouched = self._untouched or message
        self._untouched.header = message.header
        self._blank.publish(self._untouched)


def measure(policy: Path, options: argparse.Namespace) -> dict[str, float]:
    seeds: Sequence[int] = options.seeds
    rng = np.random.default_rng(44)
    told = [(seed, task, task) for seed in seeds for task in TASKS]
    shuffled = [(seed, task, str(rng.choice(TASKS))) for seed, task, _ in told]
    with LiveGraph() as graph:
        run = Run(graph, policy, options)
        done = [run.episode(*episode) for episode in told]
        done_shuffled = [run.episode(*episode) for episode in shuffled]
    of_task = {task: [d for d, e in zip(done, told, strict=True) if e[1] == task] for task in TASKS}
    result = {
        'success': mean(done),
        'success_shuffled_text': mean(done_shuffled),
        'shuffled_text_right': mean([task == drawn for _, task, drawn in shuffled]),
        'success_touch': mean(of_task[PUSH]),
    }
    result |= {f'success_{task.replace(" ", "_")}': mean(d) for task, d in of_task.items()}
    with LiveGraph() as graph:
        run = Run(graph, policy, options, touch=False)
        result['success_no_touch'] = mean([run.episode(seed, PUSH, PUSH) for seed in seeds])
    return result | {'episodes': len(told), 'first_seed': seeds[0]}


def mean(values: Sequence[bool]) -> float:
    return float(np.mean(values))


def run(options: argparse.Namespace) -> dict[str, float]:
    started_s, minutes = time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix='sarnn_sim_') as name:
        folder, policy = options.out or Path(name), options.policy
        if policy is None:
            data = options.data or make_data(folder, options.train_episodes, options.workers)
            minutes['data_minutes'] = (time.monotonic() - started_s) / 60
            began_s = time.monotonic()
            policy = train(data, folder, {'--epoch': 1} if options.quick else {})
            minutes['train_minutes'] = (time.monotonic() - began_s) / 60
        result = measure(policy, options)
    return result | minutes | {'minutes': (time.monotonic() - started_s) / 60}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [held_out_seed(number) for number in range(12)]
    parser.add_argument('--seeds', type=int, nargs='+', default=default, metavar='SEED')
    parser.add_argument('--train-episodes', type=int, default=200, help='a task; default 200')
    parser.add_argument('--data', type=Path, help='a data set that was made before')
    parser.add_argument('--policy', type=Path, help='a policy that was trained before')
    parser.add_argument('--out', type=Path, help='keep recordings, data set and policy here')
    parser.add_argument('--speed', type=float, default=5.0, help='simulated seconds a second')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if known := [seed for seed in options.seeds if seed < FIRST_HELD_OUT_SEED or seed % 2 == 0]:
        parser.error(f'{known}: held-out scenes have odd seeds from {FIRST_HELD_OUT_SEED} on')
    if options.quick:
        options.seeds, options.train_episodes = options.seeds[:1], 2
    print(json.dumps({name: round(value, 4) for name, value in run(options).items()}))


if __name__ == '__main__':
    main()
