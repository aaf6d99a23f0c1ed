"""A policy node and a robot that it drives, on a ROS graph of their own, in simulated time.

Time goes on by whole ticks, each of which is waited for: what a test sees does not depend on how
busy the computer is.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from fresh_diagnostics import fresh_status
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory
from vlm_interfaces.srv import SetTask

from vlm_nodes import messages
from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.spinner import Spinner
from vlm_nodes.node import LATCHED_QUEUE
from vlm_nodes.sarnn import DepthConfig, Sarnn, SarnnConfig, save_policy
from vlm_nodes.sarnn.node import PolicyNode

PATIENCE_S = 60.0
PERIOD_NS = 100_000_000
START_NS = 7_200_000_000_000
SERVICES = {'enable': SetBool, 'set_task': SetTask, 'reset': Trigger}
NAMES = ('shoulder', 'elbow', 'slide')
LOW, HIGH = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 2.0, 0.1])
HOME = np.array([0.0, 0.5, 0.05])

_taken = itertools.count(25)


def config(**changes):
    """A small policy that sees all there is."""
    values = {
        'joint_names': NAMES,
        'joint_bounds': (tuple(LOW.tolist()), tuple(HIGH.tolist())),
        'image_size': (16, 16),
        'depth': DepthConfig(size=(8, 8)),
        'tactile': ('gelsight1',),
        'tactile_size': (8, 8),
        'k_dim': 2,
        'rec_dim': 8,
    }
    return SarnnConfig(**(values | changes))


def drifting(step=(0.2, 0.1, 0.05), **changes):
    """A policy that wants each joint that share of its range beyond where it is."""
    torch.manual_seed(3)
    model = Sarnn(config(**changes)).eval()
    with torch.no_grad():
        model.to_outputs.weight[: len(NAMES)].zero_()
        model.to_outputs.bias[: len(NAMES)] = torch.tensor(step)
    return model


def wilful(**changes):
    """A policy whose wishes depend on all that it saw and was told."""
    torch.manual_seed(4)
    model = Sarnn(config(**changes)).eval()
    with torch.no_grad():
        model.to_outputs.weight[: len(NAMES)].mul_(100)
    return model


class QuickNode(PolicyNode):
    watch_period_s = 0.05


class Rig:
    """The node under test, and a robot's side with a publisher for each of its inputs."""

    def __init__(self, context, model, folder, *, remaps=(), **parameters):
        checkpoint = folder / 'policy.safetensors'
        save_policy(checkpoint, model)
        parameters = {
            'checkpoint': str(checkpoint),
            'use_sim_time': True,
            'sensor_reliability': 'reliable',
            'wait_periods': 0.0,  # inputs are there before the time
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.model = model
        self.joints = HOME.copy()
        self.follow = True
        self.now_ns = START_NS
        self.context = context
        self.robot = rclpy.create_node('robot', context=context)
        self.logs, self.diagnostics, self.commands = [], [], []
        self._listen(Log, '/rosout', self.logs.append, LATCHED_QUEUE)
        self._listen(DiagnosticArray, '/diagnostics', self.diagnostics.append, 1000)
        self._listen(JointTrajectory, '/joint_trajectory', self._obey)
        self.node = QuickNode(
            context=context,
            parameter_overrides=overrides,
            cli_args=['--ros-args', *(w for remap in remaps for w in ('-r', remap))],
        )
        self.publishers = {}
        self._clients = {
            name: self.robot.create_client(kind, f'policy_node/{name}')
            for name, kind in SERVICES.items()
        }
        self._spinners = [Spinner(self.node, threads=4), Spinner(self.robot)]
        self.until(lambda: self.diagnostics, 'diagnostics')

    def end(self):
        for spinner in self._spinners:
            spinner.end(PATIENCE_S)
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    # Watching

    def until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            assert time.monotonic() < deadline, f'never came: {what}; said: {self.texts()[-5:]}'
            time.sleep(0.001)
        return found

    def _listen(self, kind, topic, take, qos=10):
        self.robot.create_subscription(kind, topic, take, qos)

    def listen(self, kind, topic):
        """What comes on a topic from now on."""
        received = []
        self._listen(kind, topic, received.append)
        self.until(lambda: self.robot.count_publishers(topic), topic)
        self.until(
            lambda: any(
                p.get_subscription_count() for p in self.node.publishers if p.topic_name == topic
            ),
            topic,
        )
        return received

    def _obey(self, command):
        self.commands.append(command)
        if self.follow:
            for name, position in zip(
                command.joint_names, command.points[0].positions, strict=True
            ):
                self.joints[NAMES.index(name)] = position

    def texts(self):
        return [log.msg for log in self.logs]

    def hears(self, *parts):
        """Wait for a log line with all these parts."""
        return self.until(
            lambda: [t for t in self.texts() if all(part in t for part in parts)], parts
        )[0]

    def status(self):
        """Diagnostics that were made from now on."""
        return fresh_status(self.node, self.diagnostics, self.until)

    def values(self):
        return {entry.key: entry.value for entry in self.status().values}

    @property
    def state(self):
        return self.node._pilot.state.value

    @property
    def reason(self):
        return self.node._pilot.reason

    def count(self, what):
        return self.node._statistics.get(what)

    # Driving

    def publisher(self, kind, topic):
        """A publisher that the node listens to, and each knows of the other."""
        if topic not in self.publishers:
            made = self.robot.create_publisher(kind, topic, 10)
            self.until(made.get_subscription_count, f'listeners of {topic}')
            takers = [s for s in self.node.subscriptions if s.topic_name == made.topic_name]
            self.until(lambda: all(s.get_publisher_count() for s in takers), f'takers of {topic}')
            self.publishers[topic] = made
        return self.publishers[topic]

    def inputs(self, stamp_ns):
        """A message for each input, by topic."""
        header = messages.header_message('camera', stamp_ns)
        pattern = np.arange(24 * 32 * 3, dtype=np.uint32).reshape(24, 32, 3) * 7919 % 251
        made = {
            'rgb': messages.image_message(pattern.astype(np.uint8), 'rgb8', header),
            'joint_states': messages.joint_state_message(NAMES, self.joints, (), header),
        }
        if self.model.config.tactile:
            touch = np.full((8, 8, 3), 90, np.uint8)
            made['gelsight1'] = messages.image_message(touch, 'rgb8', header)
        if self.model.config.depth:
            depth = np.full((12, 16), 0.7, np.float32)
            made['depth'] = messages.image_message(depth, '32FC1', header)
        return made

    def send(self, without=(), **changes):
        """All inputs with the stamp of now, waited for until they are there."""
        made = {k: m for k, m in (self.inputs(self.now_ns) | changes).items() if k not in without}
        for topic, message in made.items():
            self.publisher(type(message), topic)
        taken = self.node._inputs
        for topic, message in made.items():
            self.publishers[topic].publish(message)
        for topic, message in made.items():
            stamp_ns = messages.stamp_ns(message.header.stamp)
            base = topic.strip('/').split('/')[0]
            name = 'color' if base in ('rgb', 'eye') else base
            if name == 'joint_states':
                self.until(lambda s=stamp_ns: self._joints_came(s), topic)
            else:
                self.until(lambda n=name, s=stamp_ns: taken._samples.get(n, (None,))[0] == s, topic)

    def _joints_came(self, stamp_ns):
        taken = self.node._inputs
        return taken._unusable or any(s == stamp_ns for s, _ in list(taken._joints.values()))

    def set_clock(self):
        self.publisher(Clock, '/clock').publish(Clock(clock=messages.stamp_message(self.now_ns)))
        self.until(lambda: self.node.get_clock().now().nanoseconds == self.now_ns, 'the time')

    def tick(self, times=1, without=(), wait=True, **changes):
        """Time goes on, inputs come, and the node does what it does at a tick."""
        for _ in range(times):
            self.now_ns += PERIOD_NS
            self.send(without, **changes)
            self.ticks(wait)

    def sent(self):
        """How many commands the node has sent."""
        return self.count('commands sent') + self.count('commands held')

    def ticks(self, wait=True):
        ticks, commands, sent = self.count('ticks'), len(self.commands), self.sent()
        self.set_clock()
        self.until(lambda: self.count('ticks') > ticks, 'a tick')
        if not wait:
            return
        self.until(self.node._pilot._worker.idle, 'the model')
        if not self.node._values['shadow'] and self.node.count_subscribers('/joint_trajectory'):
            new = self.sent() - sent
            if self.node._values['command_type'] == 'joint_trajectory':
                self.until(lambda: len(self.commands) >= commands + new, 'the command')

    def call(self, name, **request):
        client = self._clients[name]
        self.until(client.service_is_ready, name)
        done = threading.Event()
        future = client.call_async(client.srv_type.Request(**request))
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE_S), f'no answer from {name}'
        return future.result()

    def enable(self):
        answer = self.call('enable', data=True)
        assert answer.success, answer.message
        return answer.message

    def refused(self):
        answer = self.call('enable', data=True)
        assert not answer.success
        return answer.message

    def started(self, ticks=3):
        """Enabled, with inputs."""
        self.tick()
        self.enable()
        self.tick(ticks)
        return self

    def positions(self):
        """(N, P) of all commands."""
        return np.array([command.points[0].positions for command in self.commands])


@contextmanager
def policy_rig(model, folder, **options):
    context = Context()
    rclpy.init(context=context, domain_id=free_domain(after=next(_taken)))
    rig = Rig(context, model, folder, **options)
    try:
        yield rig
    finally:
        rig.end()
