"""Each benchmark as a smoke run: one JSON line with its keys as numbers; other keys are welcome."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TINY_WEIGHTS = REPOSITORY / 'vlm_nodes' / 'clip' / 'models' / 'tiny.safetensors'
PATIENCE_S = 580

KEYS = {
    'cliport_demos': ('episodes_per_min_core', 'bytes_per_step', 'oracle_success_min'),
    'cliport_learn': ('seen', 'unseen', 'second_task', 'follows_wrong_colour', 'train_minutes'),
    'cliport_step': (
        'infer_s',
        'train_s_b1',
        'train_s_per_sample_b4',
        'peak_gb',
        'checkpoint_mb',
    ),
    'clip_vlm_tiny': ('distill_ratio', 'view_accuracy', 'minutes'),
    'fusion': ('ms_per_frame', 'speedup_vs_loop', 'points_per_s'),
    'kitchen': (
        'frames_fused',
        'frames_sent',
        'median_error_m',
        'colour_error_on',
        'colour_error_off',
    ),
    'langocc_render': ('step_s', 'peak_gb', 'topk_speedup', 'topk_error'),
    'langocc_street': (
        'iou',
        'miou',
        'map_over_prevalence_seen',
        'map_over_prevalence_synonym',
        'train_minutes',
    ),
    'mapping_node': (
        'overhead_ms',
        'overhead_share',
        'query_p50_ms',
        'query_p99_ms',
        'dropped_share_30hz',
    ),
    'query': ('ms_50k', 'ms_200k', 'ms_1m', 'read_ratio_1m', 'mb_per_million'),
    'rooms': ('recall_seen', 'recall_unseen', 'miou', 'moved_forgotten', 'rooms'),
    'sarnn_sim': ('success', 'success_shuffled_text', 'success_no_touch', 'episodes'),
    'sarnn_step': ('ms_64', 'ms_128', 'p99_over_median', 'rss_growth_mb'),
    'sarnn_train': ('cpu_s_per_batch', 'peak_gb'),
    'tiny_clip': ('miou_seen', 'miou_unseen', 'megabytes'),
}
# Benchmarks that train and play a little take minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)
needs_tiny = pytest.mark.skipif(
    not TINY_WEIGHTS.is_file(), reason=f'the tiny model has no weights at {TINY_WEIGHTS.name} yet'
)


def run_quick(name, *arguments):
    """The figures of a smoke run, each of them checked to be a number."""
    command = [sys.executable, f'benchmarks/{name}.py', '--quick', *arguments]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, stderr
    figures = json.loads(stdout.splitlines()[-1])
    assert set(KEYS[name]) <= set(figures)
    for key, value in figures.items():
        assert isinstance(value, int | float), key
        assert math.isfinite(value), key
    return figures


@pytest.mark.parametrize('name', ['fusion', 'query'])
def test_of_the_voxel_map(name):
    figures = run_quick(name)
    assert all(figures[key] > 0 for key in KEYS[name] if key != 'mb_per_million')


@needs_tiny
def test_of_the_tiny_model():
    figures = run_quick('tiny_clip')
    assert 0 <= figures['miou_seen'] <= 1
    assert 0 < figures['megabytes'] < 50


def test_of_the_kitchen(vlm_data):
    figures = run_quick('kitchen', '--data', str(vlm_data / 'kitchen_rgbd'))
    assert figures['frames_fused'] == figures['frames_sent'] == 6
    assert figures['frames_held_out'] == 2
    assert 0 < figures['median_error_m'] < 0.02
    assert figures['colour_error_on'] < figures['colour_error_off']


@needs_tiny
def test_of_rooms():
    figures = run_quick('rooms', '--seeds', '1000004', '1000005')
    assert figures['rooms'] == 1
    assert all(0 <= figures[key] <= 1 for key in KEYS['rooms'])
    assert figures['frames_a_round'] > 0


@needs_tiny
def test_of_the_mapping_node():
    figures = run_quick('mapping_node')
    assert figures['overhead_ms'] > 0
    assert figures['query_p99_ms'] >= figures['query_p50_ms'] > 0
    assert 0 <= figures['dropped_share_30hz'] <= 1


@pytest.mark.parametrize('name', ['sarnn_step', 'sarnn_train'])
def test_of_the_policy(name):
    figures = run_quick(name)
    assert all(figures[key] > 0 for key in KEYS[name] if key != 'rss_growth_mb')


@needs_tiny
def test_of_policies_on_the_arm():
    figures = run_quick('sarnn_sim')
    assert figures['episodes'] == 3
    assert all(0 <= figures[key] <= 1 for key in figures if key.startswith('success'))


def test_of_tabletop_demonstrations():
    figures = run_quick('cliport_demos', '--tasks', 'put-block-in-bowl')
    assert figures['oracle_success_min'] == 1
    assert figures['bytes_per_step'] > 1000


@needs_tiny
def test_of_learning_to_pick_and_place():
    figures = run_quick('cliport_learn')
    assert all(0 <= figures[key] <= 1 for key in KEYS['cliport_learn'] if key != 'train_minutes')
    assert figures['train_minutes'] > 0


def test_of_the_cliport_network():
    figures = run_quick('cliport_step')
    assert all(figures[key] > 0 for key in KEYS['cliport_step'])


def test_of_learning_occupancy():
    figures = run_quick('langocc_street')
    assert 0 <= figures['miou'] <= 1
    assert figures['teacher_miou'] > 0


def test_of_rendering_at_published_sizes():
    figures = run_quick('langocc_render')
    assert 0 <= figures['topk_error'] < 1
    assert all(figures[key] > 0 for key in ('step_s', 'peak_gb', 'topk_speedup'))


@needs_tiny
def test_of_describing_surround_pictures():
    figures = run_quick('clip_vlm_tiny')
    assert 0 < figures['distill_ratio'] < 1
    assert 0 <= figures['view_accuracy'] <= 1
    assert figures['views_qwen2_5_vl'] == figures['views_qwen3_vl'] == 12


def test_rooms_of_training_are_refused():
    command = [sys.executable, 'benchmarks/rooms.py', '--seeds', '7']
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert '[7]' in done.stderr.splitlines()[-1]


def test_run_all_tells_of_figures_and_failures(tmp_path):
    script = (REPOSITORY / 'benchmarks' / 'run_all.py').read_text()
    folder = tmp_path / 'benchmarks'
    folder.mkdir()
    (folder / 'run_all.py').write_text(script)
    (folder / 'good.py').write_text('print(\'at work\')\nprint(\'{"ms": 1.25, "rooms": 3}\')\n')
    (folder / 'bad.py').write_text("raise SystemExit('no')\n")
    (folder / 'mute.py').write_text('')
    command = [sys.executable, str(folder / 'run_all.py')]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    results = (folder / 'results.md').read_text()
    assert '| `ms` | 1.25 |\n| `rooms` | 3 |' in results
    assert results.count('**Failed**') == 2
    assert '## python benchmarks/good.py' in results
    for wanted in ('Date', 'Processor', 'Threads'):
        assert f'- {wanted}: ' in results
