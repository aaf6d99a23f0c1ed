import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from color_oracle import ColorOracle
from ray_cast_rooms import ROOM, RoomRecording, changed, record_room, write_vlmaps

from vlm_nodes.clip.reducer import load_reducer
from vlm_nodes.langocc import train_reducer
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.create_map import build_map, main, map_picture
from vlm_nodes.mapping.datasets import DatasetError
from vlm_nodes.mapping.voxel_map import VoxelMap

CONFIG = VoxelMapConfig(voxel_size_m=0.05, feature_dim=0, threads=1)


@pytest.fixture(scope='module')
def room() -> RoomRecording:
    return record_room(24)


def test_every_frame_is_fused_where_it_was_seen(room: RoomRecording) -> None:
    voxel_map = build_map(room, ColorOracle(), CONFIG)
    assert len(voxel_map) > 3000
    assert voxel_map.frame_id == 'map'
    low, high = ROOM
    assert (voxel_map.points >= low - 0.051).all()
    assert (voxel_map.points <= high + 0.051).all()
    assert voxel_map.first_seen_ns.min() == room.frames[0].stamp_ns
    assert voxel_map.last_seen_ns.max() == room.frames[-1].stamp_ns
    (table, *_) = voxel_map.query('red box', max_matches=1, min_score=0.5)
    np.testing.assert_allclose(table.centroid, (-0.7, 1.0, 0.4), atol=0.35)


def test_no_model_maps_geometry_and_color(room: RoomRecording) -> None:
    voxel_map = build_map(room, None, CONFIG)
    assert len(voxel_map) > 3000
    assert not voxel_map.weights.any()
    assert voxel_map.colors.any()


def test_a_recording_that_gives_nothing_is_named(room: RoomRecording) -> None:
    with pytest.raises(DatasetError, match='no frame could be used'):
        build_map(RoomRecording([]), None)
    in_mm = changed(room, depth_m=lambda f: f.depth_m * np.float32(1000))
    with pytest.raises(DatasetError, match=r'no depth of 24 frames lies between.*check_dataset'):
        build_map(in_mm, None)


def test_picture_leaves_out_what_is_higher(room: RoomRecording) -> None:
    voxel_map = build_map(room, ColorOracle(), CONFIG)
    all_of_it, low = map_picture(voxel_map, 'room'), map_picture(voxel_map, 'room', below_m=1.0)
    assert all_of_it.dtype == low.dtype == np.uint8
    assert (all_of_it.shape != low.shape) or (all_of_it != low).any()


def test_command_line_writes_a_map_that_loads(
    tmp_path: Path, room: RoomRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    out = tmp_path / 'maps' / 'room.npz'
    assert main([str(root), str(out), '--model', 'none', '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    voxel_map = VoxelMap.load(out)
    assert figures['voxels'] == len(voxel_map) > 3000
    assert figures['frames'] == 24
    assert cv2.imread(figures['picture']).shape[1] > 300
    assert sorted(p.name for p in out.parent.iterdir()) == ['room.npz', 'room.png']


def test_a_map_is_not_overwritten_unasked(
    tmp_path: Path, room: RoomRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    out = tmp_path / 'room.npz'
    out.write_bytes(b'precious')
    command = [str(root), str(out), '--model', 'none']
    assert main(command) == 2
    assert 'exists already' in capsys.readouterr().err
    assert out.read_bytes() == b'precious'
    assert main([*command, '--overwrite']) == 0
    assert len(VoxelMap.load(out)) > 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--voxel-size-m', '0'], 'voxel_size_m = 0'),
        (['--max-depth-m', '0.05'], 'max_depth_m'),
        (['--every', '0'], 'step = 0'),
        (['--depth-intrinsics', '0', '0', '1', '1'], 'fx = 0'),
        (['--model', 'no-such-model'], 'no-such-model'),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    tmp_path: Path,
    room: RoomRecording,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    out = tmp_path / 'room.npz'
    model = [] if '--model' in options else ['--model', 'none']
    assert main([str(root), str(out), *model, *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ('source', 'options'),
    [
        ('kitchen_rgbd', ['--color-intrinsics', '526.5', '526.5', '314', '237', '--every', '5']),
        ('bags/kitchen_sqlite3', []),
    ],
)
def test_recorded_kitchen(vlm_data: Path, tmp_path: Path, source: str, options: list[str]) -> None:
    out = tmp_path / 'kitchen.npz'
    assert main([str(vlm_data / source), str(out), '--model', 'none', '--up=-y', *options]) == 0
    voxel_map = VoxelMap.load(out)
    assert len(voxel_map) > 5000
    height = np.ptp(voxel_map.points[:, 2])
    assert 1 < height < 4  # a kitchen, and upright


def test_a_reducer_that_is_given_is_the_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_vlmaps(tmp_path / 'room', record_room(3))
    reducer = tmp_path / 'reducer.npz'
    words = ['--out', str(reducer), '--dim', '16', '--threads', '1']
    assert train_reducer.main(words) == 0
    arguments = [
        str(folder),
        str(tmp_path / 'map.npz'),
        '--threads',
        '1',
        '--reducer',
        str(reducer),
    ]
    assert main(arguments) == 0
    projection = VoxelMap.load(tmp_path / 'map.npz').projection
    assert projection is not None
    np.testing.assert_array_equal(projection.basis, load_reducer(reducer).projection.basis)
    capsys.readouterr()
    assert main([*arguments, '--overwrite', '--model', 'none']) == 2
    assert '--reducer reduces features of a CLIP' in capsys.readouterr().err
