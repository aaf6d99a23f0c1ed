from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_writing import FORMATS, START_NS, Recorder, jpeg
from scipy.spatial.transform import Rotation

from bag_tools import bag2vlmaps
from bag_tools.posed_rgbd import PosedRgbdBag
from bag_tools.rectify import Rectifier
from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.rigid import invert, matrix_from_quaternion
from vlm_nodes.mapping import check_dataset, create_map
from vlm_nodes.mapping.dataset_options import open_recording
from vlm_nodes.mapping.datasets import FolderDataset

MS = 1_000_000
COUNT = 6
DEPTH_K = (50.0, 51.0, 20.0, 15.0)
COLOR_K = (60.0, 60.0, 32.0, 24.0)
COLOR_OFFSET = (0.05, -0.02, 0.01)
COLOR_TURN = (0.0, 0.0, np.sin(0.05), np.cos(0.05))
LOOKING = Rotation.from_euler('yz', [-30, 10], degrees=True).as_quat()


def record(path: Path, kind: str = 'mcap', *, speed: float = 1.0, poses: str = 'tf') -> Path:
    """A camera that drives along x; colour has a camera of its own and comes 4 ms after depth."""
    with Recorder(path, kind) as bag:
        mounts = [
            (START_NS, 'base', 'depth_optical', (0, 0, 0), LOOKING),
            (START_NS, 'depth_optical', 'color_optical', COLOR_OFFSET, COLOR_TURN),
        ]
        bag.write('/tf_static', bag.tf(mounts), START_NS)
        for k in range(2 * COUNT):
            stamp = START_NS + k * 50 * MS
            place = ((speed * k * 0.05, 0, 1), (0, 0, 0, 1))
            if poses == 'tf':
                bag.write('/tf', bag.tf([(stamp, 'map', 'base', *place)]), stamp)
            else:
                bag.write('/odom', bag.odometry(stamp, 'odom', 'base', *place), stamp)
            if k % 2 == 0:
                write_images(bag, stamp, k // 2)
        return bag.path


def write_images(bag: Recorder, stamp: int, i: int) -> None:
    depth = np.full((30, 40), 1000 + i, np.uint16)
    depth[0, :] = 0
    rgb = np.full((48, 64, 3), (10 * i, 100, 200), np.uint8)
    bag.write('/cam/depth/image_raw', bag.image(stamp, 'depth_optical', depth, '16UC1'), stamp)
    info = bag.camera_info(stamp, 'depth_optical', (40, 30), DEPTH_K)
    bag.write('/cam/depth/camera_info', info, stamp)
    late = stamp + 4 * MS
    message = bag.compressed(late, 'color_optical', jpeg(rgb), 'rgb8; jpeg compressed bgr8')
    bag.write('/cam/color/image_raw/compressed', message, late)
    info = bag.camera_info(stamp, 'color_optical', (64, 48), COLOR_K)
    bag.write('/cam/color/camera_info', info, late)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any] | str]:
    code = bag2vlmaps.main([*(str(argument) for argument in arguments), '--json'])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if code == 0 else printed.err


@pytest.mark.parametrize('depth', ['npy', 'png'])
@pytest.mark.parametrize('kind', FORMATS)
def test_the_folder_is_the_bag(
    tmp_path: Path, kind: str, depth: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = record(tmp_path / 'bag', kind, speed=0.0), tmp_path / 'out'
    code, figures = run(capsys, path, out, '--depth', depth)
    assert code == 0
    assert isinstance(figures, dict)
    assert (figures['frames'], figures['registered'], figures['frame_id']) == (COUNT, False, 'map')
    assert figures['shift_mm'] < 1e-3
    folder = open_recording(out)
    assert isinstance(folder, FolderDataset)
    for stored, recorded in zip(folder, PosedRgbdBag(path), strict=True):
        np.testing.assert_array_equal(stored.rgb, recorded.rgb)
        np.testing.assert_array_equal(stored.depth_m, recorded.depth_m)
        np.testing.assert_allclose(stored.map_from_depth, recorded.map_from_depth, atol=1e-8)
        np.testing.assert_allclose(stored.map_from_color, recorded.map_from_color, atol=1e-8)
        np.testing.assert_allclose(
            stored.color_camera.matrix(), recorded.color_camera.matrix(), atol=1e-12
        )
        np.testing.assert_allclose(stored.depth_camera.matrix(), recorded.depth_camera.matrix())
    stamps = np.loadtxt(out / 'stamps.txt', dtype=np.int64)
    np.testing.assert_array_equal(np.diff(stamps), 100 * MS)


def test_depth_that_is_not_registered_keeps_both_cameras_and_the_mount(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # While it drives, so that the mount must not be muddled with the way between two stamps.
    code, figures = run(capsys, record(tmp_path / 'bag'), tmp_path / 'out')
    assert code == 0
    config = json.loads((tmp_path / 'out' / 'dataset.json').read_text())
    assert config['depth_intrinsics'] == list(DEPTH_K)
    assert config['color_intrinsics'] == list(COLOR_K)
    depth_from_color = matrix_from_quaternion(COLOR_TURN, COLOR_OFFSET)
    np.testing.assert_allclose(
        np.reshape(config['color_from_depth'], (4, 4)), invert(depth_from_color), atol=1e-9
    )
    assert isinstance(figures, dict)
    assert figures['shift_mm'] == pytest.approx(4, abs=1e-3)  # 1 m/s for 4 ms


def test_poses_are_depths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, record(tmp_path / 'bag'), tmp_path / 'out')[0] == 0
    rows = np.loadtxt(tmp_path / 'out' / 'poses.txt')
    np.testing.assert_allclose(rows[:, :3], [(0.1 * i, 0, 1) for i in range(COUNT)], atol=1e-8)
    np.testing.assert_allclose(np.abs(rows[:, 3:] @ LOOKING), 1, atol=1e-8)


def test_odometry_places_the_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, figures = run(capsys, record(tmp_path / 'bag', poses='odom'), tmp_path / 'out')
    assert code == 0
    assert isinstance(figures, dict)
    assert figures['frame_id'] == 'odom'
    rows = np.loadtxt(tmp_path / 'out' / 'poses.txt')
    np.testing.assert_allclose(rows[:, 0], 0.1 * np.arange(COUNT), atol=1e-8)


def simulate(path: Path, *, axes: str = 'optical') -> Path:
    """As the Isaac Sim bridge publishes: rgb, depth in metres, one camera_info, one frame."""
    turn = (1.0, 0.0, 0.0, 0.0) if axes == 'opengl' else (0.0, 0.0, 0.0, 1.0)
    with Recorder(path, 'mcap') as bag:
        for i in range(COUNT):
            stamp = i * 100 * MS  # the simulation's clock begins at 0
            pose = (stamp, 'world', 'sim_camera', (0.1 * i, 0, 1), turn)
            bag.write('/tf', bag.tf([pose]), START_NS + stamp)
            info = bag.camera_info(stamp, 'sim_camera', (40, 30), DEPTH_K)
            bag.write('/camera_info', info, START_NS + stamp)
            rgb = np.full((30, 40, 3), i, np.uint8)
            bag.write('/rgb', bag.image(stamp, 'sim_camera', rgb, 'rgb8'), START_NS + stamp)
            depth = np.full((30, 40), 2.5, np.float32)
            depth[:, 0] = np.inf
            message = bag.image(stamp, 'sim_camera', depth, '32FC1')
            bag.write('/depth', message, START_NS + stamp)
        return bag.path


def test_a_simulators_recording_is_registered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, figures = run(capsys, simulate(tmp_path / 'bag'), tmp_path / 'out')
    assert code == 0
    assert isinstance(figures, dict)
    assert (figures['registered'], figures['frame_id'], figures['shift_mm']) == (True, 'world', 0)
    frames = list(open_recording(tmp_path / 'out'))
    assert len(frames) == COUNT
    assert np.isnan(frames[0].depth_m[:, 0]).all()
    assert (frames[0].depth_m[:, 1:] == 2.5).all()
    assert frames[0].color_camera == frames[0].depth_camera


def test_other_conventions_are_put_right_in_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = simulate(tmp_path / 'bag', axes='opengl')
    options = ('--camera-axes', 'opengl', '--depth-scale', 2, '--up=y', '--every', 2)
    code, figures = run(capsys, path, tmp_path / 'out', *options)
    assert code == 0
    assert isinstance(figures, dict)
    assert (figures['frames'], figures['frame_id']) == (COUNT // 2, 'world_upright')
    frames = list(open_recording(tmp_path / 'out'))
    assert np.nanmax(frames[0].depth_m) == 5.0
    # The camera at (0.2, 0, 1) of a frame whose y is up: x backwards, y to the left.
    np.testing.assert_allclose(frames[1].map_from_depth[:3, 3], (-1, -0.2, 0), atol=1e-8)


def test_distortion_is_taken_out(tmp_path: Path) -> None:
    camera = Camera(64, 48, 60, 60, 31.5, 23.5, 'plumb_bob', (-0.2, 0.05, 0.0, 0.0, 0.0))
    # Each pixel holds its undistorted ray, x in red and y in green.
    rays = camera.rays()
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., :2] = np.clip(np.rint(128 + 180 * rays), 0, 255)
    rectifier = Rectifier(camera)
    straight = rectifier.color(image)
    expected = 128 + 180 * rectifier.camera.rays()
    inner = np.s_[6:-6, 6:-6]
    assert np.abs(straight[inner][..., :2] - expected[inner]).max() < 2
    before = np.abs(image[inner][..., :2] - expected[inner]).max()
    assert before > 4
    depth = np.where(rays[..., 0] < 0, np.float32(1), np.float32(2))
    assert set(np.unique(rectifier.depth(depth)[inner])) == {1.0, 2.0}
    assert not rectifier.camera.is_distorted
    same = Rectifier(rectifier.camera)
    assert same.color(image) is image


@pytest.mark.parametrize('name', ['kitchen_mcap_zstd', 'kitchen_sqlite3'])
def test_recorded_kitchens_fuse(
    vlm_data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = vlm_data / 'bags' / name, tmp_path / name
    code, figures = run(capsys, bag, out)
    assert code == 0
    assert isinstance(figures, dict)
    assert figures['frames'] == figures['frames_claimed'] == (25 if 'mcap' in name else 8)
    assert not figures['registered']
    assert figures['shift_mm'] < 5
    assert check_dataset.main([str(out), '--no-picture', '--json']) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked['verdict'] == 'fuses'
    assert checked['depth'][0]['median_error_m'] < 0.02
    map_file = tmp_path / 'map.npz'
    assert create_map.main([str(out), str(map_file), '--model', 'none', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['voxels'] > 3000
    assert map_file.is_file()


def test_what_makes_no_folder_is_said_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / 'out'
    code, error = run(capsys, tmp_path / 'absent', out)
    assert (code, 'there is no bag' in error) == (2, True)
    with Recorder(tmp_path / 'unplaced', 'mcap') as bag:
        write_images(bag, START_NS, 0)
    code, error = run(capsys, tmp_path / 'unplaced', out)
    assert (code, 'holds no poses' in error) == (2, True)
    code, error = run(capsys, record(tmp_path / 'bag'), out, '--map-frame', 'attic')
    assert (code, 'no frame could be used: no pose (6)' in error) == (2, True)
    assert "frame 'attic' was never published" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ['bag', 'unplaced']


def test_a_killed_recorders_bag_gives_what_it_has_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = record(tmp_path / 'bag'), tmp_path / 'out'
    (path / 'metadata.yaml').unlink()
    file = path / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-1000])
    code, error = run(capsys, path, out)
    assert (code, 'no metadata.yaml' in error) == (2, True)
    code, figures = run(capsys, path, out, '--recover')
    assert code == 0
    assert isinstance(figures, dict)
    assert 0 < figures['frames'] <= COUNT
    assert any('no metadata.yaml' in problem for problem in figures['problems'])
    assert any('was not closed' in problem for problem in figures['problems'])


@pytest.mark.parametrize('count', [COUNT, 2 * COUNT])
def test_a_bag_that_comes_out_short_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """Of images or of transforms."""
    path, out = record(tmp_path / 'bag'), tmp_path / 'out'
    metadata = path / 'metadata.yaml'
    text = metadata.read_text()
    assert f'message_count: {count}\n' in text
    metadata.write_text(text.replace(f'message_count: {count}\n', f'message_count: {count + 1}\n'))
    code, error = run(capsys, path, out)
    assert (code, f'claims {count + 1} messages, {count} could' in error) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ['bag']
    code, figures = run(capsys, path, out, '--recover')
    assert code == 0
    assert isinstance(figures, dict)
    assert figures['frames'] == COUNT


def test_nothing_is_overwritten_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = record(tmp_path / 'bag'), tmp_path / 'out'
    assert run(capsys, path, out)[0] == 0
    code, error = run(capsys, path, out)
    assert (code, 'exists already' in error) == (2, True)
    assert run(capsys, path, out, '--overwrite', '--every', 3)[0] == 0
    assert len(list((out / 'rgb').iterdir())) == 2
    (out / 'rgb' / '000000.png').rename(out / 'mine.png')
    code, error = run(capsys, path, out, '--overwrite')
    assert (code, 'holds mine.png' in error) == (2, True)
    assert cv2.imread(str(out / 'mine.png')) is not None
