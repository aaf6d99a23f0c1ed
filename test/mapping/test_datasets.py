import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ray_cast_rooms import (
    DEPTH_CAMERA,
    WIDER_CAMERA,
    RoomRecording,
    record_room,
    write_seven_scenes,
    write_vlmaps,
)

from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL, invert, matrix_from_quaternion
from vlm_nodes.mapping.dataset_options import (
    add_dataset_arguments,
    open_dataset,
    open_recording,
)
from vlm_nodes.mapping.datasets import (
    CAMERA_AXES,
    UP_AXES,
    CorrectedDataset,
    Correction,
    DatasetError,
    EveryNth,
    FolderConfig,
    RgbdDataset,
    UprightDataset,
    open_folder,
)

K = (DEPTH_CAMERA.fx, DEPTH_CAMERA.fy, DEPTH_CAMERA.cx, DEPTH_CAMERA.cy)


@pytest.fixture(scope='module')
def room() -> RoomRecording:
    return record_room(11)  # '10' sorts before '2' as text


def opened(*arguments: object) -> RgbdDataset:
    parser = argparse.ArgumentParser()
    add_dataset_arguments(parser)
    return open_dataset(parser.parse_args([str(a) for a in arguments]))


def assert_same(dataset: RgbdDataset, room: RoomRecording, depth_atol: float) -> None:
    frames = list(dataset)
    assert len(frames) == len(dataset) == len(room)
    for frame, truth in zip(frames, room, strict=True):
        np.testing.assert_array_equal(frame.rgb, truth.rgb)
        np.testing.assert_allclose(frame.depth_m, truth.depth_m, atol=depth_atol)
        np.testing.assert_allclose(frame.map_from_depth, truth.map_from_depth, atol=1e-6)
        np.testing.assert_allclose(frame.map_from_color, truth.map_from_color, atol=1e-6)
        assert frame.depth_camera == truth.depth_camera
        assert frame.color_camera == truth.color_camera


@pytest.mark.parametrize('rotations', ['quaternions', 'matrices'])
@pytest.mark.parametrize('depth_format', ['npy', 'png'])
def test_vlmaps_folder(
    tmp_path: Path, room: RoomRecording, rotations: str, depth_format: str
) -> None:
    root = write_vlmaps(tmp_path / 'room', room, rotations, depth_format)
    dataset = open_folder(root, FolderConfig())
    assert 'VLMaps folder' in dataset.description
    assert '11 frames' in dataset.description
    assert_same(dataset, room, 1e-6 if depth_format == 'npy' else 6e-4)


def test_seven_scenes_folder(tmp_path: Path, room: RoomRecording) -> None:
    dataset = open_folder(write_seven_scenes(tmp_path / 'room', room), FolderConfig())
    assert '7-Scenes folder' in dataset.description
    assert_same(dataset, room, 6e-4)


def test_stamps_follow_the_order(tmp_path: Path, room: RoomRecording) -> None:
    stamps = [f.stamp_ns for f in open_folder(write_vlmaps(tmp_path / 'r', room), FolderConfig())]
    assert stamps == sorted(set(stamps))


def test_color_camera_of_its_own(tmp_path: Path) -> None:
    room = record_room(3, WIDER_CAMERA)
    root = write_seven_scenes(tmp_path / 'room', room)
    k = (WIDER_CAMERA.fx, WIDER_CAMERA.fy, WIDER_CAMERA.cx, WIDER_CAMERA.cy)
    assert_same(open_folder(root, FolderConfig(color_intrinsics=k)), room, 6e-4)
    # Without them colour is taken as registered, and that is said.
    registered = open_folder(root, FolderConfig())
    assert registered.color_camera == registered.depth_camera
    assert 'taken as registered' in registered.description


def test_color_pose_is_applied_in_its_direction(tmp_path: Path, room: RoomRecording) -> None:
    color_from_depth = matrix_from_quaternion((0, 0, 0, 1), (-0.025, 0, 0))
    config = FolderConfig(color_intrinsics=K, color_from_depth=tuple(color_from_depth.ravel()))
    dataset = open_folder(write_vlmaps(tmp_path / 'room', room), config)
    frame = dataset.frame(0)
    got = invert(frame.map_from_color) @ frame.map_from_depth
    np.testing.assert_allclose(got, color_from_depth, atol=1e-9)


def test_larger_color_image_is_a_resized_camera(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    for path in (root / 'rgb').glob('*.png'):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (320, 240)))
    camera = open_folder(root, FolderConfig()).color_camera
    assert (camera.width, camera.fx) == (320, 280)
    assert camera.cx == pytest.approx(2 * 79.5 + 0.5)


def test_color_of_another_shape_needs_intrinsics(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    for path in (root / 'rgb').glob('*.png'):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (320, 180)))
    with pytest.raises(DatasetError, match=r'320x180.*colour intrinsics'):
        open_folder(root, FolderConfig())


def test_base_poses_with_a_mount(tmp_path: Path, room: RoomRecording) -> None:
    """Poses of a base (x ahead, z up) below a level camera, as a robot has them."""
    height = matrix_from_quaternion((0, 0, 0, 1), (0, 0, 0.8))
    root = write_vlmaps(tmp_path / 'room', room)
    lines = [
        ' '.join(map(str, (f.map_from_depth @ invert(height @ BODY_FROM_OPTICAL)).ravel()))
        for f in room
    ]
    (root / 'poses.txt').write_text('\n'.join(lines))
    rotation = tuple(BODY_FROM_OPTICAL[:3, :3].ravel())
    config = FolderConfig(base_from_camera=rotation, camera_height_m=0.8)
    assert_same(open_folder(root, config), room, 1e-6)


def test_axes_turn_the_map(tmp_path: Path, room: RoomRecording) -> None:
    """Habitat's axes: y up, z backward."""
    root = write_vlmaps(tmp_path / 'room', room)
    config = FolderConfig(forward_axis=(0, 0, -1), left_axis=(-1, 0, 0), up_axis=(0, 1, 0))
    turned = open_folder(root, config).frame(0).map_from_depth
    x, y, z = room.frames[0].map_from_depth[:3, 3]
    np.testing.assert_allclose(turned[:3, 3], (-z, -x, y), atol=1e-6)


def test_dataset_json_is_read_and_options_win(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    config = FolderConfig(depth_intrinsics=(150, 150, 80, 60), frame_id='site')
    (root / 'dataset.json').write_text(config.to_json())
    assert FolderConfig.from_json(root / 'dataset.json') == config
    dataset = opened(root)
    assert (next(iter(dataset)).depth_camera.fx, dataset.frame_id) == (150, 'site')
    given = opened(root, '--depth-intrinsics', 140, 140, 79.5, 59.5)
    assert next(iter(given)).depth_camera == DEPTH_CAMERA
    assert open_recording(root).frame_id == 'site'
    assert open_recording(root, FolderConfig()).frame_id == 'map'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{"color_intrinsic": [1, 2, 3, 4]}', 'did you mean color_intrinsics'),
        ('{"zzz": 1}', "unknown key 'zzz'; known are"),
        ('{"color_intrinsics": [1, 2]}', 'four numbers'),
        ('{"base_from_camera": [1, 0, 0, 0, 1, 0, 0, 0, 2]}', 'not a rotation'),
        ('{"base_from_camera": [1, 0]}', 'has 2 numbers'),
        ('{"up_axis": [0, 1, 0]}', 'right-handed'),
        ('{"depth_unit_m": 0}', 'depth_unit_m = 0'),
        ('{"camera_axes": "sideways"}', 'sideways'),
        ('[1]', 'no JSON object'),
        ('{', 'cannot be read'),
    ],
)
def test_bad_dataset_json_is_named(
    tmp_path: Path, room: RoomRecording, text: str, words: str
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    (root / 'dataset.json').write_text(text)
    with pytest.raises(DatasetError, match=words) as caught:
        opened(root)
    assert 'dataset.json' in str(caught.value)


@pytest.mark.parametrize('missing', ['rgb/4.png', 'depth/4.npy', 'poses.txt'])
def test_a_missing_file_is_named(tmp_path: Path, room: RoomRecording, missing: str) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    (root / missing).unlink()
    with pytest.raises(DatasetError, match=missing):
        open_folder(root, FolderConfig())


@pytest.mark.parametrize('kind', ['color', 'depth', 'pose'])
def test_a_missing_file_of_seven_scenes_is_named(
    tmp_path: Path, room: RoomRecording, kind: str
) -> None:
    root = write_seven_scenes(tmp_path / 'room', room)
    next(root.glob(f'frame-000003.{kind}.*')).unlink()
    with pytest.raises(DatasetError, match=f'frame-000003.{kind}'):
        open_folder(root, FolderConfig())


def test_every_missing_file_is_counted(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    for number in range(8):
        (root / 'depth' / f'{number}.npy').unlink()
    with pytest.raises(DatasetError, match=r'0.npy.* and 3 more'):
        open_folder(root, FolderConfig())


def test_poses_that_are_not_as_many_are_named(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    poses = root / 'poses.txt'
    poses.write_text('\n'.join(poses.read_text().splitlines()[:-1]))
    with pytest.raises(DatasetError, match='has 10 poses, but there are 11 frames'):
        open_folder(root, FolderConfig())


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('poses.txt', '1 2 3\n' * 11, '3 numbers a line'),
        ('poses.txt', '0 0 0 0 0 0 0\n' * 11, 'pose 1: .*not a pose'),
        ('poses.txt', ' '.join(['1'] * 16 + ['\n']) * 11, 'pose 1 is not a rigid'),
        ('poses.txt', 'hello\n' * 11, 'cannot be read as numbers'),
        ('rgb/0.png', 'no image', '0.png is not a readable image'),
        ('depth/0.npy', 'no array', '0.npy is not a readable array'),
        ('camera-intrinsics.txt', '1 2 3', '3x3 are needed'),
    ],
)
def test_a_broken_file_is_named(
    tmp_path: Path, room: RoomRecording, name: str, content: str, words: str
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    (root / name).write_text(content)
    with pytest.raises(DatasetError, match=words):
        open_folder(root, FolderConfig())


def test_pickles_are_refused(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    np.save(root / 'depth' / '0.npy', np.array([{'a': 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r'0\.npy is not a readable array'):
        open_folder(root, FolderConfig())


def test_an_image_of_another_size_is_named(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    np.save(root / 'depth' / '5.npy', np.ones((60, 80), np.float32))
    with pytest.raises(DatasetError, match=r'5.npy.*\(60, 80\)'):
        list(open_folder(root, FolderConfig()))


def test_missing_intrinsics_are_asked_for(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    (root / 'camera-intrinsics.txt').unlink()
    with pytest.raises(DatasetError, match='says no intrinsics'):
        open_folder(root, FolderConfig())
    assert_same(open_folder(root, FolderConfig(depth_intrinsics=K)), room, 1e-6)


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='neither a VLMaps folder'):
        opened(tmp_path)
    with pytest.raises(DatasetError, match='there is no data set at'):
        opened(tmp_path / 'nowhere')


@pytest.mark.parametrize('axes', list(CAMERA_AXES))
@pytest.mark.parametrize('inverted', [False, True])
def test_corrections_undo_what_was_done(room: RoomRecording, axes: str, inverted: bool) -> None:
    def stored(pose: np.ndarray) -> np.ndarray:
        other = pose @ invert(CAMERA_AXES[axes])
        return invert(other) if inverted else other

    correction = Correction(inverted, axes)
    for frame in room:
        np.testing.assert_allclose(
            correction.pose(stored(frame.map_from_depth)), frame.map_from_depth, atol=1e-9
        )


def test_depth_scale_and_every_nth(tmp_path: Path, room: RoomRecording) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    dataset = opened(root, '--depth-scale', 0.5, '--every', 4)
    frames = list(dataset)
    assert len(frames) == len(dataset) == 3
    np.testing.assert_allclose(frames[1].depth_m, room.frames[4].depth_m / 2, rtol=1e-6)


@pytest.mark.parametrize('up', list(UP_AXES))
def test_upright_makes_the_axis_z(room: RoomRecording, up: str) -> None:
    upright = UprightDataset(room, up)
    axis = {'x': 0, 'y': 1, 'z': 2}[up[-1]]
    sign = -1 if up.startswith('-') else 1
    for frame, before in zip(upright, room, strict=True):
        assert frame.map_from_depth[2, 3] == pytest.approx(sign * before.map_from_depth[axis, 3])
    assert upright.frame_id == 'map_upright'


def test_bad_values_are_named(room: RoomRecording) -> None:
    with pytest.raises(ValueError, match="up = 'w'"):
        UprightDataset(room, 'w')
    with pytest.raises(ValueError, match='step = 0'):
        EveryNth(room, 0)
    with pytest.raises(ValueError, match='depth_scale = -1'):
        Correction(depth_scale=-1)
    with pytest.raises(ValueError, match="camera_axes = 'up'"):
        CorrectedDataset(room, Correction(camera_axes='up'))


def test_folder_options_are_refused_for_bags(vlm_data: Path) -> None:
    bag = vlm_data / 'bags' / 'kitchen_sqlite3'
    with pytest.raises(ValueError, match='--color-intrinsics: for folders only'):
        opened(bag, '--color-intrinsics', 1, 1, 1, 1)
    assert len(list(opened(bag, '--every', 3))) == 3
    scaled = next(iter(opened(bag, '--depth-scale', 0.5)))
    plain = next(iter(open_recording(bag)))
    np.testing.assert_allclose(scaled.depth_m, plain.depth_m / 2)


def test_recorded_kitchen(vlm_data: Path) -> None:
    dataset = opened(vlm_data / 'kitchen_rgbd', '--color-intrinsics', 526.5, 526.5, 314, 237)
    assert len(dataset) == 50
    frame = next(iter(dataset))
    assert frame.depth_camera.fx == 585
    assert frame.color_camera.fx == 526.5
    assert 0.5 < np.nanmedian(frame.depth_m) < 4
    stored = json.loads(FolderConfig(color_intrinsics=K).to_json())
    assert stored['color_intrinsics'] == list(K)
