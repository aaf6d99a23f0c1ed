"""Parameter file and launch files, launched for real where launch and launch_ros are."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from std_msgs.msg import String

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip_vlm.parameters import PARAMETERS as CLIP_VLM
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.cliport.parameters import PARAMETERS as CLIPORT
from vlm_nodes.langocc.checkpoint import FeatureSpace
from vlm_nodes.langocc.checkpoint import save_checkpoint as save_langocc
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.model import LangOcc
from vlm_nodes.langocc.parameters import PARAMETERS as LANGOCC
from vlm_nodes.mapping.parameters import PARAMETERS
from vlm_nodes.node import LATCHED
from vlm_nodes.sarnn import Sarnn, SarnnConfig, save_policy
from vlm_nodes.sarnn.parameters import PARAMETERS as SARNN

REPOSITORY = Path(__file__).resolve().parents[1]
ABSENT = 'launch and launch_ros have no wheels: run this where ROS 2 is installed'


def test_the_parameter_file_names_exactly_the_parameters_with_their_defaults():
    content = yaml.safe_load((REPOSITORY / 'config' / 'mapping.yaml').read_text())
    written = content['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert list(written) == list(declared)
    assert written == declared
    assert all(type(written[name]) is type(declared[name]) for name in declared)


def test_every_parameter_in_the_file_has_a_comment():
    lines = (REPOSITORY / 'config' / 'mapping.yaml').read_text().splitlines()
    values = [
        line for line in lines if line.startswith('    ') and not line.strip().startswith('#')
    ]
    assert len(values) == len(PARAMETERS)
    assert all('  # ' in line for line in values)


def test_the_file_of_a_robot_names_parameters_of_its_nodes():
    content = yaml.safe_load((REPOSITORY / 'config' / 'robot.yaml').read_text())
    declared = {
        'mapping_node': PARAMETERS,
        'policy_node': SARNN,
        'cliport_node': CLIPORT,
        'occupancy_node': LANGOCC,
        'caption_node': CLIP_VLM,
    }
    assert list(content) == list(declared)
    for node, section in content.items():
        kinds = {parameter.name: type(parameter.default) for parameter in declared[node]}
        for name, value in section['ros__parameters'].items():
            assert kinds[name] is type(value), f'{node}: {name}'


# Launches a file as `ros2 launch FILE NAME:=VALUE` does.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
service = LaunchService()
arguments = [word.split(':=', 1) for word in sys.argv[2:]]
included = IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""
PATIENCE_S = 60.0
EXECUTABLES = (
    'arm_expert_node',
    'caption_node',
    'cliport_node',
    'mapping_node',
    'occupancy_node',
    'policy_node',
    'sim_arm_node',
    'sim_node',
    'sim_street_node',
    'sim_table_node',
    'surround_player_node',
    'table_player_node',
)


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An install space that holds the executable, as colcon makes it."""
    pytest.importorskip('launch_ros', reason=ABSENT)
    index = tmp_path / 'share/ament_index/resource_index/packages'
    executables = tmp_path / 'lib/vlm_nodes'
    for folder in (index, executables):
        folder.mkdir(parents=True)
    (index / 'vlm_nodes').touch()
    for name in EXECUTABLES:
        start = f'from vlm_nodes.executables import {name}; {name}()'
        script = executables / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('PYTHONPATH', str(REPOSITORY), prepend=os.pathsep)
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    return tmp_path


@contextmanager
def launched(file, *arguments):
    command = [sys.executable, '-c', LAUNCH, str(REPOSITORY / 'launch' / file), *arguments]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def graph(prefix, ros_domain):
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node('onlooker', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def parameters(node, *names, of='mapping_node'):
    client = AsyncParameterClient(node, of)
    assert client.wait_for_services(PATIENCE_S)
    future = client.get_parameters(list(names))
    node.executor.spin_until_future_complete(future, PATIENCE_S)
    values = (parameter_value_to_python(value) for value in future.result().values)
    return dict(zip(names, values, strict=True))


def topics(node):
    return {name for name, _ in node.get_topic_names_and_types()}


def ends_well(process):
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert 'process has finished cleanly' in output
    assert 'Traceback' not in output


def test_mapping_comes_up_with_what_is_given_over_what_the_file_says(graph, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text('/**: {ros__parameters: {map_frame: odom, voxel_size_m: 0.1, model: tiny}}')
    arguments = [f'params_file:={file}', 'model:=none', 'rgb:=/front/color', 'map_file:=007']
    with launched('mapping.launch.py', *arguments) as process:
        expected = {
            'map_frame': 'odom',
            'voxel_size_m': 0.1,
            'model': 'none',
            'map_file': '007',
            'use_sim_time': False,
        }
        assert parameters(graph, *expected) == expected
        assert {'/front/color', '/depth', '/camera_info'} <= topics(graph)
        assert '/rgb' not in topics(graph)
        ends_well(process)


def test_isaac_sim_comes_up_on_simulated_time_in_the_frame_of_the_bridge(graph):
    with launched('isaac_sim.launch.py', 'model:=none') as process:
        expected = {'map_frame': 'world', 'use_sim_time': True, 'model': 'none', 'sync_queue': 10}
        assert parameters(graph, *expected) == expected
        assert {'/rgb', '/depth', '/camera_info', '/clock'} <= topics(graph)
        ends_well(process)


def test_the_demo_maps_a_simulated_room(graph):
    fused = []

    def look(message):
        values = {entry.key: entry.value for entry in message.status[0].values}
        fused.append(int(values.get('frames fused', 0)))

    graph.create_subscription(DiagnosticArray, '/diagnostics', look, 10)
    with launched('demo.launch.py', 'model:=none') as process:
        deadline = time.monotonic() + PATIENCE_S
        while not (fused and fused[-1]):
            assert time.monotonic() < deadline, 'nothing is fused'
            graph.executor.spin_once(timeout_sec=0.1)
        ends_well(process)


@pytest.fixture
def checkpoint(tmp_path):
    config = SarnnConfig(
        ('shoulder', 'elbow'), ((0.0, 0.0), (1.0, 1.0)), image_size=(16, 16), k_dim=2, rec_dim=8
    )
    save_policy(tmp_path / 'policy.safetensors', Sarnn(config))
    return tmp_path / 'policy.safetensors'


def test_a_policy_comes_up_on_the_topics_that_are_given(graph, checkpoint, tmp_path):
    file = tmp_path / 'robot.yaml'
    limits = 'joint_limits: {elbow: {max_velocity: 0.5}}'
    file.write_text(f'/**: {{ros__parameters: {{ramp_s: 3.0, max_velocity: 0.8, {limits}}}}}')
    arguments = [
        f'params_file:={file}',
        f'checkpoint:={checkpoint}',
        'command_type:=joint_state',
        'command:=/robot/joint_command',
        'rgb:=/front/color',
        'use_sim_time:=true',
    ]
    with launched('policy.launch.py', *arguments) as process:
        expected = {
            'checkpoint': str(checkpoint),
            'command_type': 'joint_state',
            'ramp_s': 3.0,
            'max_velocity': 0.8,
            'joint_limits.elbow.max_velocity': 0.5,
            'shadow': False,
            'use_sim_time': True,
        }
        assert parameters(graph, *expected, of='policy_node') == expected
        assert {'/front/color', '/joint_states', '/robot/joint_command'} <= topics(graph)
        assert not {'/rgb', '/joint_command', '/joint_trajectory'} & topics(graph)
        ends_well(process)


def test_a_policy_in_shadow_mode_has_no_topic_to_the_robot(graph, checkpoint):
    arguments = [f'checkpoint:={checkpoint}', 'shadow:=true']
    with launched('policy.launch.py', *arguments) as process:
        assert parameters(graph, 'shadow', of='policy_node') == {'shadow': True}
        assert {'/rgb', '/policy_node/command'} <= topics(graph)
        assert '/joint_trajectory' not in topics(graph)
        ends_well(process)


def test_the_expert_does_a_task_of_the_simulated_arm(graph):
    told = []
    graph.create_subscription(String, '/sim_arm_node/outcome', told.append, LATCHED)
    task = 'push the green box to the left'
    arguments = ['expert:=true', f'task:={task}', 'seed:=2', 'realtime_factor:=20.0']
    arguments += ['wait_for_command_s:=5']
    with launched('sim_arm.launch.py', *arguments) as process:
        expected = {'task': task, 'seed': 2, 'realtime_factor': 20.0, 'wait_for_command_s': 5.0}
        assert parameters(graph, *expected, of='sim_arm_node') == expected
        deadline = time.monotonic() + PATIENCE_S
        while not (told and json.loads(told[-1].data)['success']):
            assert time.monotonic() < deadline, 'the box is not pushed'
            graph.executor.spin_once(timeout_sec=0.1)
        assert json.loads(told[-1].data)['task'] == task
        ends_well(process)


@pytest.fixture
def planner(tmp_path):
    """A small CLIPort checkpoint, not trained."""
    folder = tmp_path / 'planner'
    save_checkpoint(CliportModel(ModelConfig.small(rotations=4), FrozenClip.load('tiny')), folder)
    return folder


def test_cliport_comes_up_with_the_cameras_that_are_named(graph, planner, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text('/**: {ros__parameters: {table_frame: bench, tool_down: false, pixel_m: 0.01}}')
    arguments = [f'params_file:={file}', f'checkpoint:={planner}', 'cameras:=front, left']
    arguments += ['table_frame:=table', 'depth_transport:=compressedDepth', 'use_sim_time:=true']
    with launched('cliport.launch.py', *arguments) as process:
        expected = {
            'checkpoint': str(planner),
            'cameras': ['front', 'left'],
            'table_frame': 'table',
            'tool_down': False,
            'pixel_m': 0.01,
            'rgb_transport': 'raw',
            'use_sim_time': True,
        }
        assert parameters(graph, *expected, of='cliport_node') == expected
        wanted = {'/front/rgb', '/left/rgb', '/front/depth/compressedDepth', '/left/camera_info'}
        assert wanted <= topics(graph)
        assert '/front/depth' not in topics(graph)
        ends_well(process)


def test_cliport_with_one_camera_listens_where_it_is_told(graph, planner):
    arguments = [f'checkpoint:={planner}', 'rgb:=/wrist/color', 'camera_info:=/wrist/camera_info']
    with launched('cliport.launch.py', *arguments) as process:
        expected = {'cameras': [''], 'table_frame': 'table', 'use_sim_time': False}
        assert parameters(graph, *expected, of='cliport_node') == expected
        assert {'/wrist/color', '/wrist/camera_info', '/depth'} <= topics(graph)
        assert not {'/rgb', '/camera_info'} & topics(graph)
        ends_well(process)


def test_a_robot_comes_up_with_the_rooms_that_are_named(graph, planner, tmp_path):
    file = tmp_path / 'robot.yaml'
    cliport = f'cliport_node: {{ros__parameters: {{checkpoint: {planner}, cameras: [wrist]}}}}'
    file.write_text(f'mapping_node: {{ros__parameters: {{model: none}}}}\n{cliport}\n')
    arguments = ['rooms:=mapping, cliport', f'params_file:={file}', 'use_sim_time:=true']
    with launched('bringup.launch.py', *arguments, 'rgb:=/head/rgb') as process:
        assert parameters(graph, 'checkpoint', 'use_sim_time', of='cliport_node') == {
            'checkpoint': str(planner),
            'use_sim_time': True,
        }
        assert parameters(graph, 'model', 'use_sim_time') == {'model': 'none', 'use_sim_time': True}
        assert {'/head/rgb', '/depth', '/wrist/rgb', '/wrist/depth'} <= topics(graph)
        assert 'policy_node' not in graph.get_node_names()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert output.count('process has finished cleanly') == 2
        assert 'Traceback' not in output


def test_a_robot_has_no_room_that_nobody_knows(prefix):
    with launched('bringup.launch.py', 'rooms:=mapping,kitchen') as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert 'no kitchen; there are mapping, policy, cliport, langocc, clip_vlm' in output


def test_the_table_alone_has_nobody_who_plans(graph):
    told = []
    graph.create_subscription(String, '/sim_table_node/outcome', told.append, LATCHED)
    arguments = ['task:=stack-block-pyramid-seq', 'split:=unseen', 'seed:=10003']
    with launched('sim_table.launch.py', *arguments) as process:
        expected = {'task': 'stack-block-pyramid-seq', 'split': 'unseen', 'seed': 10003}
        assert parameters(graph, *expected, of='sim_table_node') == expected
        deadline = time.monotonic() + PATIENCE_S
        while not told:
            assert time.monotonic() < deadline, 'nothing is said of the episode'
            graph.executor.spin_once(timeout_sec=0.1)
        assert json.loads(told[-1].data)['seed'] == 10003
        assert {'/front/rgb', '/left/depth', '/right/camera_info', '/clock'} <= topics(graph)
        assert not {'cliport_node', 'table_player_node'} & set(graph.get_node_names())
        ends_well(process)


def test_the_table_has_a_planner_and_a_player_where_they_are_asked_for(graph, planner):
    with launched('sim_table.launch.py', f'checkpoint:={planner}', 'episodes:=3') as process:
        expected = {'checkpoint': str(planner), 'cameras': ['front', 'left', 'right']}
        assert parameters(graph, *expected, 'use_sim_time', of='cliport_node') == {
            **expected,
            'use_sim_time': True,
        }
        assert parameters(graph, 'episodes', of='table_player_node') == {'episodes': 3}
        assert parameters(graph, 'mode', of='sim_table_node') == {'mode': 'test'}
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert output.count('process has finished cleanly') == 3
        assert 'Traceback' not in output


@pytest.fixture
def occupancy(tmp_path):
    """A small LangOcc checkpoint, not trained."""
    folder = tmp_path / 'occupancy'
    encoder = Encoder.load('tiny', num_threads=1)
    model = LangOcc(LangOccConfig.small(feature_dim=encoder.dim))
    save_langocc(folder, model, FeatureSpace('tiny', None, encoder.identity, None))
    return folder


def test_occupancy_comes_up_with_the_cameras_that_are_named(graph, occupancy, tmp_path):
    file = tmp_path / 'car.yaml'
    file.write_text('/**: {ros__parameters: {threshold: 0.2, base_frame: car, image_topic: rgb}}')
    arguments = [f'params_file:={file}', f'checkpoint:={occupancy}', 'image_transport:=compressed']
    arguments += ['cameras:=CAM_FRONT, CAM_BACK', 'fixed_frame:=odom', 'namespace:=/car']
    with launched('langocc.launch.py', *arguments) as process:
        expected = {
            'threshold': 0.2,
            'base_frame': 'car',
            'cameras': ['CAM_FRONT', 'CAM_BACK'],
            'fixed_frame': 'odom',
            'use_sim_time': False,
        }
        assert parameters(graph, *expected, of='/car/occupancy_node') == expected
        wanted = {'/car/CAM_FRONT/rgb/compressed', '/car/CAM_BACK/camera_info'}
        assert wanted <= topics(graph)
        assert '/car/CAM_FRONT_LEFT/camera_info' not in topics(graph)
        ends_well(process)


@pytest.fixture
def captioner(tmp_path):
    """A tiny CLIP-VLM, not trained."""
    from caption_rig import save_model  # which loads transformers

    return save_model(tmp_path / 'captioner')


def test_captions_come_up_with_what_is_asked(graph, captioner):
    arguments = [f'checkpoint:={captioner}', 'cameras:=CAM_FRONT,CAM_BACK', 'rate:=0']
    arguments += ['max_new_tokens:=7', 'prompt:=Is it free?', 'namespace:=/car']
    with launched('clip_vlm.launch.py', *arguments) as process:
        expected = {
            'checkpoint': str(captioner),
            'cameras': ['CAM_FRONT', 'CAM_BACK'],
            'rate': 0.0,
            'max_new_tokens': 7,
            'prompt': 'Is it free?',
            'need_all_cameras': False,
            'use_sim_time': False,
        }
        assert parameters(graph, *expected, of='/car/caption_node') == expected
        assert {'/car/CAM_FRONT/image_raw', '/car/CAM_BACK/image_raw'} <= topics(graph)
        assert '/car/CAM_FRONT_LEFT/image_raw' not in topics(graph)
        ends_well(process)


def test_simulated_streets_are_played_where_no_drive_is_named(graph):
    arguments = ['cameras:=CAM_FRONT, CAM_BACK', 'rate_hz:=5', 'seed:=1000001', 'width:=64']
    with launched('surround_player.launch.py', *arguments, 'height:=32') as process:
        expected = {'cameras': ['CAM_FRONT', 'CAM_BACK'], 'rate_hz': 5.0, 'seed': 1000001}
        assert parameters(graph, *expected, of='sim_street_node') == expected
        assert {'/CAM_FRONT/image_raw', '/CAM_BACK/camera_info'} <= topics(graph)
        ends_well(process)
