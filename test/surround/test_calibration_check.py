"""Pictures held against LiDAR: with calibration as it is, and with mistakes put into it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vlm_nodes.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix
from vlm_nodes.mapping import check_dataset
from vlm_nodes.simulation.street.export import Plan, write_streets
from vlm_nodes.simulation.street.recorder import Settings
from vlm_nodes.simulation.street.rig import upright_pose
from vlm_nodes.simulation.street.vocabulary import VAL_SEEDS
from vlm_nodes.surround import CAMERAS, NuScenes, SurroundError, VoxelGrid
from vlm_nodes.surround.calibration_check import check_calibration, ring_jumps, upright_edges
from vlm_nodes.surround.keyframe_file import read_keyframe_file


@pytest.fixture(scope='module')
def street(tmp_path_factory):
    """Two drives of two keyframes."""
    folder = tmp_path_factory.mktemp('streets') / 'val'
    grid = VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 5.4), 1.6)
    settings = Settings(keyframes=2, grid=grid, samples=0)
    write_streets(folder, Plan(VAL_SEEDS[:2], settings, truth=False))
    return folder


@pytest.fixture(scope='module')
def real(vlm_data):
    path = vlm_data / 'nuscenes_keyframe' / 'keyframe.json'
    if not path.is_file():
        pytest.skip(f'no {path}')
    return read_keyframe_file(path)[0]


def only(keyframe, *names):
    return replace(keyframe, cameras={name: keyframe.cameras[name] for name in names})


def turned(keyframe, name, yaw_deg=0.0, pitch_deg=0.0):
    """The keyframe with a camera's mounting turned to the left, and down."""
    image = keyframe.cameras[name]
    mounting = image.ego_from_camera.copy()
    level = upright_pose((0, 0, 0), np.radians(yaw_deg))[:3, :3]
    cos, sin = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    nod = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    mounting[:3, :3] = level @ mounting[:3, :3] @ nod
    cameras = {**keyframe.cameras, name: replace(image, ego_from_camera=mounting)}
    return replace(keyframe, cameras=cameras)


def swapped(keyframe, one, other):
    """The keyframe with the pictures of two cameras exchanged."""
    a, b = keyframe.cameras[one], keyframe.cameras[other]
    changed = {one: replace(a, path=b.path), other: replace(b, path=a.path)}
    return replace(keyframe, cameras={**keyframe.cameras, **changed})


def test_the_real_keyframe_fits(real):
    report = check_calibration([real])
    assert report.fits
    assert not report.wrong
    assert report.text == 'cameras look where their calibration says'
    for fit in report.cameras:
        assert abs(fit.yaw_deg) <= 0.5
        assert abs(fit.pitch_deg) <= 1


@pytest.mark.parametrize('name', ['CAM_FRONT', 'CAM_BACK_RIGHT'])
@pytest.mark.parametrize('yaw_deg', [3.0, -5.0])
def test_a_turned_camera_of_the_real_keyframe_is_named(real, name, yaw_deg):
    report = check_calibration([turned(only(real, name, 'CAM_BACK_LEFT'), name, yaw_deg)])
    assert not report.fits
    assert [fit.name for fit in report.wrong] == [name]
    side = 'left' if yaw_deg > 0 else 'right'
    assert f'{name} looks too far' in report.text
    assert f'degrees to the {side}' in report.text
    assert abs(report.wrong[0].yaw_deg + yaw_deg) <= 0.5


def test_a_camera_that_looks_down_is_named(real):
    report = check_calibration(
        [turned(only(real, 'CAM_BACK_LEFT'), 'CAM_BACK_LEFT', pitch_deg=4.0)]
    )
    assert [fit.name for fit in report.wrong] == ['CAM_BACK_LEFT']
    assert '4 degrees down' in report.text


def test_swapped_cameras_of_the_real_keyframe_are_named(real):
    some = only(real, 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT')
    report = check_calibration([swapped(some, 'CAM_FRONT', 'CAM_FRONT_RIGHT')])
    places = {fit.name: fit.place_of for fit in report.wrong}
    assert places == {'CAM_FRONT': 'CAM_FRONT_RIGHT', 'CAM_FRONT_RIGHT': 'CAM_FRONT'}
    assert 'CAM_FRONT sees what CAM_FRONT_RIGHT should see' in report.text


def test_a_turned_lidar_is_told_from_turned_cameras(real):
    mounting = real.lidar.ego_from_lidar.copy()
    mounting[:3, :3] = upright_pose((0, 0, 0), np.radians(3.0))[:3, :3] @ mounting[:3, :3]
    some = only(real, 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_LEFT')
    lidar = replace(real.lidar, ego_from_lidar=mounting)
    report = check_calibration([replace(some, lidar=lidar)])
    assert not report.fits
    assert report.text.startswith('all cameras are off alike: the LiDAR is turned by 3')


def test_pictures_in_which_nothing_stands_out_cannot_be_told(real, tmp_path):
    import cv2

    path = tmp_path / 'grey.png'
    cv2.imwrite(str(path), np.full((900, 1600, 3), 127, np.uint8))
    some = only(real, 'CAM_FRONT', 'CAM_BACK')
    grey = {name: replace(image, path=path) for name, image in some.cameras.items()}
    report = check_calibration([replace(real, cameras=grey)])
    assert not report.fits
    assert not report.wrong
    assert 'cannot be told' in report.text


def test_keyframes_without_sweeps_are_refused(real):
    with pytest.raises(SurroundError, match='has no LiDAR sweep'):
        check_calibration([replace(real, lidar=None)])
    with pytest.raises(SurroundError, match='no keyframe'):
        check_calibration([])


def test_jumps_are_where_something_nearer_ends():
    """A wall at 10 m all about, a post at 5 m before it, and a gap without answers."""
    azimuth = np.radians(np.arange(-180, 180))
    distance = np.full(360, 10.0)
    distance[100:103] = 5.0
    kept = np.ones(360, bool)
    kept[200:210] = False
    points = np.column_stack([distance * np.cos(azimuth), distance * np.sin(azimuth), 0 * azimuth])
    jumps = ring_jumps(points[kept], np.zeros(kept.sum()))
    places = np.flatnonzero(kept)[jumps > 0]
    assert places.tolist() == [100, 102, 199, 210]
    assert jumps.max() == 5.0


def test_upright_edges_are_upright():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, 40:] = 200
    upright = upright_edges(picture)
    assert abs(int(upright[30].argmax()) - 40) <= 1
    level = upright_edges(np.ascontiguousarray(picture[:60, :60].transpose(1, 0, 2)))
    assert upright.max() > 20 * level.max()


# The command, on tables ---------------------------------------------------------------------------


def check(capsys, *words):
    code = check_dataset.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def change(street, folder, edit):
    """A copy of the street whose calibration table was edited: rows by camera."""
    shutil.copytree(street, folder)
    tables = next(folder.glob('*/sample.json')).parent
    sensors = {r['token']: r['channel'] for r in json.loads((tables / 'sensor.json').read_text())}
    path = tables / 'calibrated_sensor.json'
    rows = json.loads(path.read_text())
    edit({sensors[row['sensor_token']]: row for row in rows if row['sensor_token'] in sensors})
    path.write_text(json.dumps(rows))
    return folder


def test_streets_are_checked_and_fit(street, capsys):
    code, out, _ = check(capsys, street)
    assert code == 0
    assert 'verdict: cameras look where their calibration says' in out
    assert all(name in out for name in CAMERAS)


def test_a_turned_extrinsic_in_the_tables_is_named(street, tmp_path, capsys):
    def edit(rows):
        row = rows['CAM_FRONT_RIGHT']
        w, x, y, z = row['rotation']
        matrix = matrix_from_quaternion((x, y, z, w), (0, 0, 0))
        matrix[:3, :3] = upright_pose((0, 0, 0), np.radians(4.0))[:3, :3] @ matrix[:3, :3]
        x, y, z, w = quaternion_from_matrix(matrix)
        row['rotation'] = [w, x, y, z]

    code, out, _ = check(capsys, change(street, tmp_path / 'turned', edit), '--json')
    report = json.loads(out)
    assert code == 1
    assert not report['fits']
    wrong = [fit for fit in report['cameras'] if fit['text']]
    assert [fit['name'] for fit in wrong] == ['CAM_FRONT_RIGHT']
    assert abs(wrong[0]['yaw_deg'] + 4) <= 1


def test_swapped_calibrations_in_the_tables_are_named(street, tmp_path, capsys):
    def edit(rows):
        one, other = rows['CAM_FRONT'], rows['CAM_BACK_LEFT']
        for key in ('translation', 'rotation', 'camera_intrinsic'):
            one[key], other[key] = other[key], one[key]

    code, out, _ = check(capsys, change(street, tmp_path / 'swapped', edit))
    assert code == 1
    assert 'CAM_FRONT sees what CAM_BACK_LEFT should see' in out
    assert 'CAM_BACK_LEFT sees what CAM_FRONT should see' in out


def test_what_cannot_be_checked_is_one_line(street, tmp_path, capsys):
    folder = tmp_path / 'cameras_alone'
    write_streets(
        folder,
        Plan(VAL_SEEDS[:1], Settings(32, 32, keyframes=1, samples=0), lidar=False, truth=False),
    )
    code, _, said = check(capsys, folder)
    assert code == 2
    assert 'calibration is checked by LiDAR sweeps' in said
    assert said.count('\n') == 1
    code, _, said = check(capsys, street, '--cameras', 'CAM_TOP')
    assert (code, said.count('\n')) == (2, 1)
    assert 'has no CAM_TOP' in said
    assert NuScenes(street)
