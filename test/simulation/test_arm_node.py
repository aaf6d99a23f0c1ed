import json
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.messages import (
    camera_from_info,
    depth_from_image,
    header_message,
    joint_positions,
    joint_state_message,
    rgb_from_image,
    stamp_ns,
    trajectory_message,
)
from vlm_nodes.node import LATCHED_QUEUE
from vlm_nodes.simulation.arm.kinematics import JOINTS, joints_for_tip
from vlm_nodes.simulation.arm.node import PARAMETERS
from vlm_nodes.simulation.arm.simulator import BASE_FROM_CAMERA, ArmSettings, ArmSimulator
from vlm_nodes.simulation.arm.tasks import PUSH, REACH_BLUE, REACH_RED
from vlm_nodes.transforms import matrix_from_transform

MODULE = 'vlm_nodes.simulation.arm.node'
EXPERT = 'vlm_nodes.simulation.arm.demonstrator.node'
PATIENCE_S = 90.0
REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = {'rgb': Image, 'depth': Image, 'camera_info': CameraInfo, 'gelsight1/image_raw': Image}
GOAL = joints_for_tip((0.42, 0.1, 0.15))


class Arm:
    """`sim_arm_node` in a graph, and what a robot's user does with it."""

    def __init__(self, graph, **parameters):
        self.graph = graph
        self.joints, self.outcomes = [], []
        graph.node.create_subscription(JointState, 'joint_states', self.joints.append, 10)
        graph.node.create_subscription(
            String,
            'sim_arm_node/outcome',
            lambda m: self.outcomes.append(json.loads(m.data)),
            LATCHED_QUEUE,
        )
        self.commands = graph.node.create_publisher(JointState, 'joint_command', 10)
        self.trajectories = graph.node.create_publisher(JointTrajectory, 'joint_trajectory', 10)
        self.process = graph.start('sim_arm_node', MODULE, {'realtime_factor': 5.0} | parameters)
        self.wait(lambda: self.outcomes and self.joints, 'it to start')
        for publisher in (self.commands, self.trajectories):
            self.wait(publisher.get_subscription_count, 'it to listen')

    def wait(self, condition, what):
        self.graph.wait(condition, PATIENCE_S, what)

    def position(self):
        return np.array([joint_positions(self.joints[-1])[name] for name in JOINTS])

    def command(self, **positions):
        names = list(positions)
        header = header_message('', 0)
        self.commands.publish(joint_state_message(names, list(positions.values()), (), header))

    def set(self, **values):
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        answer, _ = self.graph.call(SetParameters, 'sim_arm_node/set_parameters', request)
        return [result.successful for result in answer.results]

    def reset(self):
        return self.graph.call(Trigger, 'sim_arm_node/reset', Trigger.Request())[0]


@contextmanager
def arm(**parameters):
    with LiveGraph() as graph:
        yield Arm(graph, **parameters)


def near(a, b, tolerance=0.01):
    return bool(np.allclose(a, b, atol=tolerance))


def test_all_topics_show_what_the_simulator_shows():
    with LiveGraph() as graph:
        received = {topic: {} for topic in (*IMAGES, 'joint_states', '/clock', '/tf', 'truth')}

        def keep(topic, stamp, message):
            received[topic][stamp] = message

        for topic, kind in (*IMAGES.items(), ('joint_states', JointState)):
            graph.node.create_subscription(
                kind, topic, lambda m, topic=topic: keep(topic, stamp_ns(m.header.stamp), m), 10
            )
        graph.node.create_subscription(
            Clock, '/clock', lambda m: keep('/clock', stamp_ns(m.clock), m), 10
        )
        graph.node.create_subscription(
            TFMessage, '/tf', lambda m: keep('/tf', stamp_ns(m.transforms[0].header.stamp), m), 10
        )

        def keep_truth(message):
            truth = json.loads(message.data)
            keep('truth', truth['stamp_ns'], truth)

        graph.node.create_subscription(
            String, 'sim_arm_node/ground_truth', keep_truth, LATCHED_QUEUE
        )

        def common():
            return set.intersection(*(set(messages) for messages in received.values()))

        graph.start('sim_arm_node', MODULE, {'seed': 6, 'task': PUSH, 'width': 96})
        graph.wait(lambda: len(common()) >= 3, PATIENCE_S, 'three ticks')
    with ArmSimulator(replace(ArmSettings(), width=96)) as simulator:
        simulator.reset(6, PUSH)
        for stamp in sorted(common()):
            frame = {topic: messages[stamp] for topic, messages in received.items()}
            while simulator.stamp_ns < stamp - frame['truth']['begin_ns']:
                simulator.step()
            check_frame(simulator, frame)


def check_frame(simulator, frame):
    seen = simulator.observe()
    assert frame['rgb'].encoding == frame['gelsight1/image_raw'].encoding == 'rgb8'
    assert frame['depth'].encoding == '32FC1'
    np.testing.assert_array_equal(rgb_from_image(frame['rgb']), seen.rgb)
    np.testing.assert_array_equal(depth_from_image(frame['depth']), seen.depth_m)
    np.testing.assert_array_equal(rgb_from_image(frame['gelsight1/image_raw']), seen.tactile)
    camera = camera_from_info(frame['camera_info'])
    np.testing.assert_allclose(camera.matrix(), simulator.camera.matrix())
    np.testing.assert_allclose(frame['joint_states'].position, seen.joint_positions)
    np.testing.assert_allclose(frame['joint_states'].velocity, seen.joint_velocities)
    transforms = {
        t.child_frame_id: matrix_from_transform(t.transform) for t in frame['/tf'].transforms
    }
    np.testing.assert_allclose(transforms['sim_camera'], BASE_FROM_CAMERA, atol=1e-9)
    np.testing.assert_allclose(transforms['fingertip'][:3, 3], simulator.truth()['fingertip'])
    assert {key: frame['truth'][key] for key in simulator.truth()} == simulator.truth()


@pytest.fixture(scope='module')
def robot():
    with arm() as made:
        yield made


def begin(robot, seed, task):
    """An episode, at rest; returns its number."""
    robot.set(seed=seed, task=task)
    episode = json.loads(robot.reset().message)['episode']
    robot.wait(lambda: robot.outcomes[-1]['episode'] == episode, 'the episode')
    with ArmSimulator() as simulator:
        simulator.reset(seed, task)
        start = simulator.world.joint_positions()
    robot.wait(lambda: near(robot.position(), start), 'the arm at its start')
    return episode


def test_commands_move_the_joints_that_they_name(robot):
    begin(robot, 2, REACH_RED)
    start = robot.position()
    robot.command(wrist=float(start[3]) + 0.3, base_yaw=0.25)
    wanted = [0.25, start[1], start[2], start[3] + 0.3]
    robot.wait(lambda: near(robot.position(), wanted), 'the joints that were named to move')
    robot.trajectories.publish(trajectory_message(JOINTS, GOAL, 0.1))
    robot.wait(lambda: near(robot.position(), GOAL), 'the trajectory to be followed')


def test_bad_commands_are_said_and_survived(robot):
    begin(robot, 2, REACH_RED)
    robot.command(knee=1.0)
    robot.wait(lambda: "no joint 'knee'" in robot.process.output(), 'what is wrong to be said')
    robot.trajectories.publish(JointTrajectory(joint_names=list(JOINTS)))
    robot.wait(lambda: 'joint_trajectory is not taken' in robot.process.output(), 'it said')
    robot.trajectories.publish(trajectory_message(['wrist'], [float('nan')], 0.1))
    robot.commands.publish(JointState(name=['wrist', 'elbow'], position=[1.0]))
    robot.command(**dict(zip(JOINTS, GOAL.tolist(), strict=True)))
    robot.wait(lambda: near(robot.position(), GOAL), 'good commands to be followed')


def test_reset_begins_an_episode_with_the_parameters_as_they_are(robot):
    begin(robot, 2, REACH_RED)
    robot.command(**dict(zip(JOINTS, GOAL.tolist(), strict=True)))
    robot.wait(lambda: near(robot.position(), GOAL), 'it to move')
    assert robot.set(seed=4, task=PUSH) == [True, True]
    assert robot.outcomes[-1]['task'] == REACH_RED
    answer = robot.reset()
    assert answer.success
    episode = json.loads(answer.message)['episode']
    assert json.loads(answer.message) == {'episode': episode, 'seed': 4, 'task': PUSH}
    robot.wait(lambda: robot.outcomes[-1]['episode'] == episode, 'the next episode')
    first = next(o for o in robot.outcomes if o['episode'] == episode)
    assert (first['seed'], first['task'], first['success']) == (4, PUSH, False)
    stamps = [outcome['stamp_ns'] for outcome in robot.outcomes]
    assert stamps == sorted(stamps)
    assert first['begin_ns'] > max(o['stamp_ns'] for o in robot.outcomes if o['episode'] < episode)
    with ArmSimulator() as simulator:
        simulator.reset(4, PUSH)
        start = simulator.world.joint_positions()
    robot.wait(lambda: near(robot.position(), start), 'the arm at its start')


def test_a_task_or_seed_that_there_is_not_is_refused_and_the_episode_goes_on(robot):
    episode = begin(robot, 2, REACH_RED)
    assert robot.set(seed=-1) == [False]
    assert robot.set(task='dance') == [True]
    answer = robot.reset()
    assert not answer.success
    assert "task is 'dance', not one of 'reach the red ball'" in answer.message
    ticks = robot.outcomes[-1]['tick']
    robot.wait(lambda: robot.outcomes[-1]['tick'] > ticks, 'the episode to go on')
    assert robot.outcomes[-1]['episode'] == episode
    assert robot.outcomes[-1]['task'] == REACH_RED


def test_ticks_wait_for_their_commands_and_are_shown_to_who_comes_late():
    with arm(wait_for_command_s=600.0, realtime_factor=50.0) as robot:
        late = []
        robot.graph.node.create_subscription(Image, 'rgb', late.append, 10)
        robot.wait(lambda: late, 'the picture to be shown again')
        assert robot.outcomes[-1]['tick'] == 0
        assert stamp_ns(late[0].header.stamp) == robot.outcomes[-1]['stamp_ns']
        for tick in range(1, 6):
            robot.command(wrist=0.5)
            robot.wait(lambda tick=tick: robot.outcomes[-1]['tick'] == tick, f'tick {tick}')
            assert robot.outcomes[-1]['tick'] == tick


def test_the_expert_does_the_tasks_over_topics():
    with arm(seed=1_000_001, task=PUSH, wait_for_command_s=20.0, realtime_factor=50.0) as robot:
        robot.graph.start('arm_expert_node', EXPERT, {})
        robot.wait(lambda: robot.outcomes[-1]['success'], 'the box to be pushed')
        robot.set(task=REACH_BLUE)
        robot.reset()
        robot.wait(
            lambda: robot.outcomes[-1]['episode'] == 2 and robot.outcomes[-1]['success'],
            'the ball to be reached',
        )
        assert robot.outcomes[-1]['reason'] == 'at the blue ball'


def test_wall_time_stamps_without_a_clock():
    before = time.time_ns()
    with arm(use_wall_time=True) as robot:
        robot.command(base_yaw=0.2)
        robot.wait(lambda: near(robot.position()[0], 0.2), 'it to move')
        assert robot.graph.node.get_publishers_info_by_topic('/clock') == []
        assert all(before < outcome['stamp_ns'] < time.time_ns() for outcome in robot.outcomes)


def test_signals_end_it_quietly():
    with arm() as robot:
        assert robot.process.end() == 0
        assert robot.process.output() == ''


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'task': 'dance'}, "sim_arm_node: task is 'dance', not one of"),
        ({'seed': -3}, 'parameter seed'),
        ({'rate_hz': 0.0}, 'parameter rate_hz'),
    ],
)
def test_a_bad_parameter_ends_it_with_one_line(parameters, message):
    with LiveGraph() as graph:
        process = graph.start('sim_arm_node', MODULE, parameters)
        with pytest.raises(NodeFailedError):
            graph.wait(lambda: False, PATIENCE_S, 'its end')
        assert process.returncode == 1
        assert message in process.output()
        assert process.output().count('\n') == 1


def test_the_parameter_file_names_exactly_the_parameters_with_their_defaults():
    content = yaml.safe_load((REPOSITORY / 'config' / 'sim_arm.yaml').read_text())
    written = content['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert written == declared
    assert all(type(written[name]) is type(declared[name]) for name in declared)
