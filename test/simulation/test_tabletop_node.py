"""sim_table_node on a real graph, and episodes played over topics and services only."""

import json
import os
import signal
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vlm_interfaces.srv import PlanPickPlace

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.messages import (
    SECOND_NS,
    camera_from_info,
    header_message,
    pose_array_message,
    pose_stamped_message,
    rgb_from_image,
    stamp_ns,
)
from vlm_nodes.node import LATCHED, LATCHED_QUEUE
from vlm_nodes.simulation.tabletop import Tabletop, make_task
from vlm_nodes.simulation.tabletop.cameras import CAMERA, camera_poses
from vlm_nodes.simulation.tabletop.story import Story
from vlm_nodes.transforms import matrix_from_transform

SIMULATOR = 'vlm_nodes.simulation.tabletop.node'
PLAYER = 'vlm_nodes.simulation.tabletop.player.node'
PLANNER = 'vlm_nodes.cliport.node'
PATIENCE_S = 60.0
TASK, SEED = 'put-block-in-bowl', 10005
CAMERAS = ['front', 'left', 'right']
NONSENSE = '{"episode": "none"}'
IMAGES = {'rgb': Image, 'depth': Image, 'camera_info': CameraInfo}


class Table:
    """`sim_table_node` in a graph, and what its user sees and does."""

    def __init__(self, graph, **parameters):
        self.graph = graph
        self.events, self.stories, self.truths, self.transforms = [], [], [], {}
        node = graph.node
        node.create_subscription(String, 'sim_table_node/outcome', self._on_story, LATCHED_QUEUE)
        node.create_subscription(
            String,
            'sim_table_node/ground_truth',
            lambda m: self.truths.append(json.loads(m.data)),
            LATCHED_QUEUE,
        )
        node.create_subscription(TFMessage, '/tf_static', self._on_tf, LATCHED_QUEUE)
        self.execute = node.create_publisher(PoseArray, 'sim_table_node/execute', 10)
        settings = {'task': TASK, 'seed': SEED} | parameters
        self.process = graph.start('sim_table_node', SIMULATOR, settings)
        self.wait(lambda: self.stories and self.transforms, 'it to start')
        self.wait(self.execute.get_subscription_count, 'it to listen')

    def _on_story(self, message):
        if message.data != NONSENSE:
            self.stories.append(Story.from_json(message.data))

    def _on_tf(self, message):
        for transform in message.transforms:
            frames = transform.header.frame_id, transform.child_frame_id
            self.transforms[frames] = matrix_from_transform(transform.transform)

    def wait(self, condition, what):
        self.graph.wait(condition, PATIENCE_S, what)

    def do(self, *poses, frame='table', stamp=7):
        """Send poses; what is told of it."""
        told = len(self.stories)
        self.execute.publish(pose_array_message(poses, header_message(frame, stamp)))
        self.wait(lambda: len(self.stories) > told, 'an outcome')
        assert self.stories[-1].command_stamp_ns == stamp
        return self.stories[-1]

    def reset(self, **values):
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        if parameters:
            request = SetParameters.Request(parameters=parameters)
            answer, _ = self.graph.call(
                SetParameters, 'sim_table_node/set_parameters', request, PATIENCE_S
            )
            assert all(result.successful for result in answer.results)
        return self.graph.call(Trigger, 'sim_table_node/reset', Trigger.Request(), PATIENCE_S)[0]


@contextmanager
def table(**parameters):
    with LiveGraph() as graph:
        yield Table(graph, **parameters)


@contextmanager
def offline(task=TASK, seed=SEED, **options):
    with Tabletop(make_task(task, **options), seed) as same:
        same.reset()
        yield same


def test_all_topics_show_what_the_table_shows():
    with LiveGraph() as graph:
        received = {f'{name}/{topic}': [] for name in CAMERAS for topic in IMAGES}
        clocks = []
        for name in received:
            kind = IMAGES[name.split('/')[1]]
            graph.node.create_subscription(kind, name, received[name].append, 10)
        graph.node.create_subscription(Clock, '/clock', clocks.append, 10)
        seen = Table(graph)
        seen.wait(lambda: all(len(m) > 1 for m in received.values()) and clocks, 'all topics')
        seen.wait(lambda: seen.truths, 'the truth')
        assert seen.truths[0]['seed'] == SEED
    with offline() as same:
        for view in same.observe():
            by_stamp = [
                {stamp_ns(message.header.stamp): message for message in received[topic]}
                for topic in (f'{view.name}/{topic}' for topic in IMAGES)
            ]
            newest_ns = max(set.intersection(*map(set, by_stamp)))
            rgb, depth, info = (messages[newest_ns] for messages in by_stamp)
            assert rgb.header.frame_id == info.header.frame_id == f'{view.name}_camera'
            np.testing.assert_array_equal(rgb_from_image(rgb), view.rgb)
            shown = np.frombuffer(depth.data, np.float32).reshape(view.depth_m.shape)
            np.testing.assert_array_equal(shown, view.depth_m)
            np.testing.assert_allclose(camera_from_info(info).matrix(), CAMERA.matrix())
            first, second = (stamp_ns(m.header.stamp) for m in received[f'{view.name}/rgb'][:2])
            assert second > first > 0
        truth = {body['name']: body['table_from_body'] for body in seen.truths[0]['bodies']}
        for body in same.truth():
            np.testing.assert_array_equal(truth[body.name], body.table_from_body)
        assert seen.stories[0].instruction == same.instruction
    for name, pose in camera_poses().items():
        found = seen.transforms['table', f'{name}_camera']
        np.testing.assert_allclose(found, pose, atol=1e-9)


def test_the_experts_poses_do_the_task_over_topics():
    with table() as live, offline() as same:
        done = False
        while not done:
            pick, place, instruction = same.oracle()
            assert live.stories[-1].instruction == instruction
            before = live.stories[-1]
            story = live.do(pick, place)
            reward, done, info = same.step(pick, place)
            assert (story.picked, story.done, story.steps) == (info.picked, done, info.steps)
            assert story.reward == pytest.approx(reward)
            assert story.total == pytest.approx(info.total)
            assert story.stamp_ns > before.stamp_ns + SECOND_NS  # the arm took its time
        assert story.success
        assert story.total == pytest.approx(1)
        over = live.do(np.eye(4), np.eye(4), stamp=8)
        assert 'the episode is over' in over.refused
        assert over.total == story.total


def test_poses_that_cannot_be_carried_out_are_refused_and_told():
    with table() as live:
        pose = np.eye(4)
        for poses, frame, said in (
            ((pose, pose), 'world', "poses are in frame 'world', not in 'table'"),
            ((pose,), 'table', '1 pose(s) came, not a pick and a place'),
            ((), 'table', '0 pose(s) came'),
        ):
            story = live.do(*poses, frame=frame)
            assert said in story.refused
            assert (story.steps, story.total) == (0, 0)
        broken = pose_array_message([pose, pose], header_message('table', 9))
        broken.poses[1].position.x = float('nan')
        told = len(live.stories)
        live.execute.publish(broken)
        live.wait(lambda: len(live.stories) > told, 'an outcome')
        assert 'is not a pose' in live.stories[-1].refused
        assert live.stories[-1].commands == 4
        # Beside all things: carried out, but nothing is picked.
        away = np.eye(4)
        away[:2, 3] = (0.9, 0.6)
        story = live.do(away, pose, stamp=10)
        assert (story.refused, story.picked, story.steps) == ('', None, 1)


def test_a_reset_begins_what_the_parameters_name():
    with table() as live:
        answer = live.reset(task='stack-block-pyramid-seq', split='unseen', seed=10003)
        assert answer.success, answer.message
        story = Story.from_json(answer.message)
        assert (story.task, story.seed) == ('stack-block-pyramid-seq-unseen-colors', 10003)
        assert (story.episode, story.steps, story.mode) == (2, 0, 'test')
        with offline('stack-block-pyramid-seq', 10003, split='unseen') as same:
            assert story.instruction == same.instruction
        live.wait(lambda: live.stories[-1].episode == 2, 'the new story')
        for wrong, said in (
            ({'task': 'juggle'}, "there is no task 'juggle'"),
            ({'task': TASK, 'split': 'odd'}, "has no split 'odd'"),
            ({'split': '', 'mode': 'night'}, "mode 'night' is not known"),
        ):
            answer = live.reset(**wrong)
            assert not answer.success
            assert said in answer.message
        assert live.reset(mode='val', seed=3).success


def test_a_task_that_is_none_ends_it_at_once():
    with pytest.raises(NodeFailedError, match="there is no task 'juggle'"), table(task='juggle'):
        pass


def save_model(folder: Path) -> Path:
    """A small network with random weights: its plans are wrong, but they are plans."""
    torch.manual_seed(11)
    config = ModelConfig.small(rotations=4, crop_px=32, words=('block', 'bowl', 'put'))
    save_checkpoint(CliportModel(config, FrozenClip.load('tiny')).eval(), folder)
    return folder


@pytest.mark.timeout(300)  # three nodes share what a loaded machine has left
def test_episodes_go_round_over_topics_and_services_only(tmp_path):
    unsure = {'least_pick_score': 0.0, 'least_place_score': 0.0}
    unsure |= {'most_pick_entropy': 1.0, 'most_place_entropy': 1.0}
    results = tmp_path / 'results.json'
    with LiveGraph() as graph:
        live = Table(graph)
        graph.start(
            'cliport_node',
            PLANNER,
            {
                'checkpoint': str(save_model(tmp_path / 'model')),
                'cameras': CAMERAS,
                'use_sim_time': True,
                'image_timeout_s': PATIENCE_S,
                'tf_timeout_s': PATIENCE_S,
                **unsure,
            },
        )
        player = graph.start('table_player', PLAYER, {'episodes': 2, 'results': str(results)})

        def page():
            return json.loads(results.read_text()) if results.exists() else {}

        graph.wait(lambda: page().get('is_complete'), 4 * PATIENCE_S, 'two episodes')
        episodes = page()['episodes']
        assert [episode['seed'] for episode in episodes] == [SEED, SEED + 2]

        def told(number):
            return [story for story in live.stories if story.episode == number]

        def all_told():
            return all(
                told(number) and told(number)[-1].steps == episode['steps']
                for number, episode in enumerate(episodes, start=1)
            )

        live.wait(all_told, 'the last stories')
        for number, episode in enumerate(episodes, start=1):
            own = told(number)
            assert own[-1].steps == episode['steps'] >= 1
            assert own[-1].done or episode['refusals'] == 3
            assert own[-1].total == episode['total']
            # Each plan is of images of the table as the action before left it.
            for before, after in pairwise(own):
                assert after.command_stamp_ns >= before.stamp_ns
        assert 'episode 2, seed' in player.output()


def test_a_planner_that_went_and_came_back_is_asked_again(tmp_path):
    settings = {'checkpoint': str(save_model(tmp_path / 'model')), 'cameras': ['none']}
    settings['image_timeout_s'] = PATIENCE_S
    with LiveGraph() as graph:
        live = Table(graph)
        deaf = graph.start('cliport_node', PLANNER, settings)
        player = graph.start('table_player', PLAYER, {})
        said = 'waiting for an answer of plan_pick_place'
        graph.wait(lambda: said in player.output(), 2 * PATIENCE_S, 'a question')
        os.kill(deaf.pid, signal.SIGKILL)  # asked to end, it might answer yet
        graph.stop(deaf)
        said = 'plan_pick_place went before it answered'
        graph.wait(lambda: said in player.output(), PATIENCE_S, 'the loss to be noticed')
        assert live.stories[-1].commands == 0
        planner = Planner(graph, lambda: (np.eye(4), np.eye(4)))
        live.wait(lambda: live.stories[-1].commands, 'an action')
        assert planner.asked


class Planner:
    """A planner that knows the answers, or has none."""

    def __init__(self, graph, answer):
        self._answer = answer
        graph.node.create_service(PlanPickPlace, 'plan_pick_place', self._serve)
        self.asked = []

    def _serve(self, request, response):
        self.asked.append(request.instruction)
        poses = self._answer()
        response.success, response.message = bool(poses), '' if poses else 'I see no such thing'
        if poses:
            response.header = header_message('table', 5)
            response.pick = pose_stamped_message(poses[0], response.header)
            response.place = pose_stamped_message(poses[1], response.header)
        return response


def test_episodes_are_played_to_the_end_or_given_up():
    pages = []

    def play(graph, **parameters):
        player = graph.start('table_player', PLAYER, parameters)
        graph.wait(lambda: pages and pages[-1]['is_complete'], PATIENCE_S, 'an episode')
        assert graph.stop(player) == 0
        assert 'tells of no episode' in player.output()
        return pages.pop()['episodes']

    with LiveGraph() as graph, offline() as same:
        live = Table(graph)
        # What nobody can make sense of, which the player meets first, does not end it.
        other = graph.node.create_publisher(String, 'sim_table_node/outcome', LATCHED)
        other.publish(String(data=NONSENSE))
        graph.node.create_subscription(
            String,
            'table_player_node/results',
            lambda m: pages.append(json.loads(m.data)),
            LATCHED_QUEUE,
        )

        def expert():
            pick, place, _ = same.oracle()
            same.step(pick, place)
            return pick, place

        answers = [lambda: (), lambda: ()]
        planner = Planner(graph, lambda: answers.pop()() if answers else expert())
        (episode,) = play(graph, most_refusals=3)  # two refusals in a row are borne
        assert (episode['success'], episode['total']) == (True, pytest.approx(1))
        assert episode['steps'] == live.stories[-1].commands == len(planner.asked) - 2
        assert live.reset(seed=SEED + 2).success
        live.wait(lambda: live.stories[-1].episode == 2, 'the new story')
        asked = len(planner.asked)
        answers[:] = [lambda: ()] * 5
        (episode,) = play(graph, most_refusals=2)
        assert (episode['steps'], episode['refusals'], episode['success']) == (0, 2, False)
        assert len(planner.asked) == asked + 2
