"""Data that lack something, given to the commands: one line that names it, nothing half-written."""

import json
import shutil

import numpy as np
import pytest
from small_langocc import save_small

from vlm_nodes.langocc import evaluate, extract, train
from vlm_nodes.langocc.checkpoint import load_checkpoint
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.predictor import Predictor
from vlm_nodes.surround import NuScenes, read_image
from vlm_nodes.surround.occupancy import OCC3D_GRID, Occupancy, occupancy_path, write_occupancy

TABLES = ('scene', 'sample', 'sample_data', 'calibrated_sensor', 'sensor', 'ego_pose')
RAYS = ['--clip-size', '32', '--threads', '1', '--feature-dim', '12', '--rays-a-camera', '10']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp('langocc') / 'run')


@pytest.fixture
def copy(street, tmp_path):
    """A street of its own, to take things from."""
    return shutil.copytree(street, tmp_path / 'street')


def commands(data, checkpoint, out):
    """Each command on the data, by name."""
    return {
        'extract_rays': lambda *more: extract.main([str(data), '--out', str(out), *RAYS, *more]),
        'evaluate_langocc': lambda *more: evaluate.main([str(checkpoint), str(data), *more]),
        'train_langocc': lambda *more: train.main(
            [str(data), '--val', str(data), '--out', str(out), '--accelerator', 'cpu', *more]
        ),
    }


COMMANDS = tuple(commands('', '', ''))


def one_line(capsys, command, *words):
    said = capsys.readouterr().err
    assert said.startswith(f'{command}: ')
    assert said.count('\n') == 1
    assert all(word in said for word in words), said


@pytest.mark.parametrize('command', COMMANDS)
def test_a_missing_table(copy, checkpoint, tmp_path, capsys, command):
    (copy / 'v1.0-street' / 'ego_pose.json').unlink()
    out = tmp_path / 'out'
    assert commands(copy, checkpoint, out)[command]() == 2
    one_line(capsys, command, 'ego_pose.json is missing', 'needed are', *TABLES)
    assert not out.exists()


@pytest.mark.parametrize('command', COMMANDS)
def test_a_camera_without_calibration(copy, checkpoint, tmp_path, capsys, command):
    path = copy / 'v1.0-street' / 'calibrated_sensor.json'
    sensors = json.loads((copy / 'v1.0-street' / 'sensor.json').read_text())
    back = next(row['token'] for row in sensors if row['channel'] == 'CAM_BACK')
    rows = json.loads(path.read_text())
    for row in rows:
        if row['sensor_token'] == back:
            row['camera_intrinsic'] = []
    path.write_text(json.dumps(rows))
    out = tmp_path / 'out'
    assert commands(copy, checkpoint, out)[command]() == 2
    one_line(capsys, command, 'CAM_BACK', 'the camera is not calibrated')
    assert not out.exists()


def test_a_missing_picture_ends_extraction_which_goes_on_when_it_is_there(
    copy, checkpoint, tmp_path, capsys
):
    gone = NuScenes(copy)[2].cameras['CAM_BACK'].path
    content = gone.read_bytes()
    gone.unlink()
    out = tmp_path / 'rays'
    run = commands(copy, checkpoint, out)['extract_rays']
    assert run() == 2
    one_line(capsys, 'extract_rays', f'{gone} is missing', '--require-files')
    tokens = [NuScenes(copy)[place].token for place in range(6)]
    assert sorted(p.stem for p in (out / 'rays').iterdir()) == sorted(tokens[:2])
    gone.write_bytes(content)
    assert run() == 0
    assert len(list((out / 'rays').iterdir())) == 6


def test_keyframes_that_lack_a_picture_are_left_out_where_files_are_required(
    copy, checkpoint, tmp_path, capsys
):
    drives = NuScenes(copy)
    gone = drives[2]
    gone.cameras['CAM_BACK'].path.unlink()
    out = tmp_path / 'rays'
    run = commands(copy, checkpoint, out)
    assert run['extract_rays']('--require-files') == 0
    assert gone.token not in {p.stem for p in (out / 'rays').iterdir()}
    assert len(list((out / 'rays').iterdir())) == 5
    capsys.readouterr()
    assert run['evaluate_langocc']('--classes', 'car') == 2
    one_line(capsys, 'evaluate_langocc', gone.cameras['CAM_BACK'].path.name, '--require-files')
    assert run['evaluate_langocc']('--classes', 'car', '--require-files', '--json') == 0
    assert 'iou' in json.loads(capsys.readouterr().out)


def test_labels_of_another_grid(copy, checkpoint, tmp_path, capsys):
    keyframe = NuScenes(copy)[0]
    free = np.full(OCC3D_GRID.shape, 17, np.uint8)
    seen = np.ones(OCC3D_GRID.shape, bool)
    path = occupancy_path(copy, keyframe.scene, keyframe.token)
    write_occupancy(path, Occupancy(free, seen, seen))
    assert commands(copy, checkpoint, tmp_path)['evaluate_langocc']('--classes', 'car') == 2
    one_line(capsys, 'evaluate_langocc', '(200, 200, 16)')


def test_a_checkpoint_of_another_grid(checkpoint):
    with pytest.raises(LangOccError, match=r'in 1\.6 m, not .* in 0\.4 m') as caught:
        load_checkpoint(checkpoint, OCC3D_GRID)
    assert '\n' not in str(caught.value)


def test_pictures_with_nan(street, checkpoint):
    keyframe = NuScenes(street)[0]
    image = keyframe.cameras['CAM_FRONT']
    view = RigView(image.camera, keyframe.ego_from_camera('CAM_FRONT'))
    dark = np.full((*read_image(image).shape[:2], 3), np.nan, np.float32)
    with pytest.raises(LangOccError, match=r'picture of CAM_FRONT must be .*uint8.*float32'):
        Predictor(load_checkpoint(checkpoint)).predict({'CAM_FRONT': dark}, {'CAM_FRONT': view})
