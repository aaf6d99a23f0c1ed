import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vlm_nodes.demo import demo
from vlm_nodes.demo.node import MappingClient
from vlm_nodes.demo.report import Asked, MapCloud, table, write_heat, write_map
from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError, NodeProcess, ros_words
from vlm_nodes.mapping.instances import MapMatch

REPOSITORY = Path(__file__).resolve().parents[1]
TINY_WEIGHTS = REPOSITORY / 'vlm_nodes' / 'clip' / 'models' / 'tiny.safetensors'
KITCHEN_COLOR = ['--color-intrinsics', '526.5', '526.5', '314', '237']


def match(label, centroid, score=0.9):
    size = np.array([0.3, 0.2, 0.4])
    return MapMatch(label, score, np.array(centroid), size, 40, 1, 2)


def things():
    truth = np.array([1.0, 2.0, 0.5])
    return [
        Asked('red mug', [match('red mug', (1.3, 2.0, 0.9))], 12.34, truth),
        Asked('blue bear', [], 7.0, np.array([0.0, -1.0, 0.2]), unseen=True),
    ]


# The table --------------------------------------------------------------------------------------


def test_the_table_tells_error_score_and_what_was_never_trained_on():
    head, mug, bear, note = table(things()).splitlines()
    assert head.split()[:2] == ['query', 'found']
    assert '( 1.30,  2.00,  0.90)' in mug
    assert '( 1.00,  2.00,  0.50)' in mug
    assert mug.split()[-3:] == ['0.50', '0.90', '12.3']
    assert bear.startswith('blue bear *')
    assert 'nothing' in bear
    assert bear.split()[-3:] == ['-', '-', '7.0']
    assert note.startswith('* no training picture')


def test_the_table_of_a_recording_tells_sizes_instead():
    head, row = table([Asked('cup', [match('cup', (0, 0, 0))], 1.0)]).splitlines()
    assert 'size m' in head
    assert 'error' not in head
    assert '0.30 x 0.20 x 0.40' in row


def test_questions_are_six_with_unseen_pairs_among_them():
    def thing(label, unseen):
        return {'label': label, 'unseen': unseen, 'centre': [0, 0, 0]}

    truth = {
        'objects': [thing(str(i), i >= 6) for i in range(9)],
        'tables': [thing('table', False)],
    }
    asked = demo._questions(None, truth)
    assert [one['label'] for one in asked] == ['0', '1', '2', '6', '7', '8']
    few = {'objects': truth['objects'][4:7], 'tables': []}
    assert [one['label'] for one in demo._questions(None, few)] == ['4', '5', '6']
    assert demo._questions(['table', 'moon'], truth) == [truth['tables'][0], {'label': 'moon'}]


# Pictures ---------------------------------------------------------------------------------------


@pytest.fixture
def cloud():
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    points = np.column_stack([x.ravel() * 0.05, y.ravel() * 0.05 + 1.0, np.zeros(1200)])
    return MapCloud(points.astype(np.float32), np.full((1200, 3), (10, 120, 40), np.uint8), 0.05)


def test_the_map_shows_boxes_and_true_places(tmp_path, cloud):
    import cv2

    write_map(tmp_path / 'a.png', cloud, things(), 'a room')
    write_map(tmp_path / 'b.png', cloud, [], 'a room')
    marked, plain = (cv2.imread(str(tmp_path / name)) for name in ('a.png', 'b.png'))
    assert marked.shape == plain.shape
    white = (marked == 255).all(axis=2) & ~(plain == 255).all(axis=2)
    assert white.sum() > 20
    assert (marked != plain).any(axis=2).sum() > 200


def test_the_heat_map_is_brightest_where_the_score_is(tmp_path, cloud):
    import cv2

    scores = np.where(cloud.points[:, 0] < 1.0, 0.9, 0.0).astype(np.float32)
    one = Asked('mug', [], 1.0)
    write_heat(tmp_path / 'h.png', cloud, (cloud.points, scores), one, 'mug')
    body = cv2.imread(str(tmp_path / 'h.png'))[60:-90]
    half = body.shape[1] // 2
    assert body[:, :half].mean() > 2 * body[:, half:].mean()


def test_without_rviz_the_foxglove_layout_and_domain_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    options = demo._parser().parse_args(['--rviz'])
    assert demo._start_viewer(options, SimpleNamespace(domain=42)) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert 'config/foxglove_mapping.json' in line
    assert 'ROS_DOMAIN_ID=42' in line


# Processes --------------------------------------------------------------------------------------


def test_parameters_reach_a_node_with_their_types():
    words = ros_words({'model': 'none', 'rate': 2.0, 'on': True, 'names': ['a']}, {'rgb': '/cam'})
    assert words == [
        '--ros-args',
        *('-p', 'model:="none"', '-p', 'rate:=2.0', '-p', 'on:=true', '-p', 'names:=["a"]'),
        *('-r', 'rgb:=/cam'),
    ]


def node_of(tmp_path, source):
    (tmp_path / 'some_node.py').write_text(source)
    environment = os.environ | {'PYTHONPATH': str(tmp_path), 'PYTHONUNBUFFERED': '1'}
    return NodeProcess('some_node', [], environment, tmp_path / 'some_node.log')


def wait_for(condition, patience_s=90.0):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_that_fails_is_named_with_its_last_words(tmp_path):
    process = node_of(tmp_path, 'import sys\nprint("no weights here")\nsys.exit(3)\n')
    wait_for(lambda: process.returncode is not None)
    with pytest.raises(NodeFailedError, match=r'some_node ended with status 3:\nno weights here'):
        process.check()


def test_a_node_that_ends_well_is_no_failure(tmp_path):
    process = node_of(tmp_path, 'print("done")')
    wait_for(lambda: 'done' in process.output())
    assert process.end() in (0, -signal.SIGINT)
    quiet = node_of(tmp_path, 'print("done")')
    wait_for(lambda: quiet.returncode is not None)
    quiet.check()


def test_a_node_that_does_not_listen_is_killed(tmp_path):
    source = (
        'import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n'
        'print("deaf")\ntime.sleep(100)\n'
    )
    process = node_of(tmp_path, source)
    wait_for(lambda: 'deaf' in process.output())
    assert process.end(patience_s=0.2) == -signal.SIGKILL


def test_a_domain_in_use_is_passed_over():
    first = free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as occupied:
        occupied.bind(('', 7400 + 250 * first))
        second = free_domain()
    assert first != second
    assert 1 <= second <= 101
    assert free_domain() == first


# Live -------------------------------------------------------------------------------------------


def test_a_node_that_cannot_start_ends_the_wait_with_its_reason():
    with LiveGraph() as graph:
        mapping = MappingClient(graph, model='none', voxel_size_m=7.0)
        with pytest.raises(NodeFailedError, match=r'(?s)mapping_node ended.*voxel_size_m'):
            mapping.wait_ready()


def test_an_unanswered_question_says_why():
    with LiveGraph() as graph:
        mapping = MappingClient(graph, model='none')
        mapping.wait_ready()
        with pytest.raises(NodeFailedError, match="the query 'red mug' failed"):
            mapping.query('red mug')
        process = mapping.process
    assert process.returncode == 0


def run_demo(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, '-m', 'vlm_nodes.demo.demo', *arguments],
        cwd=cwd,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, patience_s=240):
    try:
        return process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def test_a_recording_is_mapped_and_drawn(vlm_data, tmp_path):
    kitchen = str((vlm_data / 'kitchen_rgbd').resolve())
    process = run_demo(
        *('--recording', kitchen, *KITCHEN_COLOR, '--up=-y', '--every', '10'), cwd=tmp_path
    )
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr
    assert 'mapped: 5 frames fused' in stdout
    assert 'of 5 frames sent' in stdout
    assert 'geometry and colour only' in stdout
    assert (tmp_path / 'demo' / 'kitchen_rgbd_map.png').stat().st_size > 1000


@pytest.mark.skipif(not TINY_WEIGHTS.is_file(), reason='the tiny model has no weights yet')
def test_a_room_is_mapped_and_asked(tmp_path):
    process = run_demo('--quick', cwd=tmp_path)
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr
    assert 'found within 0.25 m' in stdout
    assert stdout.count(' *') >= 1
    pictures = sorted(path.name for path in (tmp_path / 'demo').iterdir())
    assert len(pictures) == 2
    assert pictures[1].endswith('_map.png')


def test_sigterm_leaves_no_node_behind(vlm_data, tmp_path):
    kitchen = str((vlm_data / 'kitchen_rgbd').resolve())
    process = run_demo('--recording', kitchen, '--rate', '1', cwd=tmp_path)
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    wait_for(lambda: len(children.read_text().split()) == 2)
    nodes = [Path('/proc') / pid for pid in children.read_text().split()]
    process.terminate()
    stdout, stderr = finish(process)
    assert process.returncode == 130, stdout
    assert stderr.strip() == 'demo: interrupted'
    assert not any(node.exists() for node in nodes)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--rate', '5'], '--rate 5: understood with --recording only'),
        (['--recording', 'nowhere'], 'there is no data set at nowhere'),
        (['--seed', '7'], '--seed 7: rooms of no training have seeds'),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(arguments, words, capsys):
    try:
        status = demo.main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
