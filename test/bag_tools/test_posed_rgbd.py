import gc
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bag_writing import (
    FORMATS,
    START_NS,
    Recorder,
    compressed_depth_16,
    jpeg,
)
from scipy.spatial.transform import Rotation

from bag_tools.posed_rgbd import PosedRgbdBag, PosedRgbdConfig
from bag_tools.reader import BagError, DamagedBagError
from vlm_nodes.geometry.rigid import matrix_from_quaternion

MS = 1_000_000
COUNT = 8
DEPTH_K = (50.0, 51.0, 20.0, 15.0)
COLOR_K = (60.0, 60.0, 32.0, 24.0)
DEPTH_OFFSET = (0.1, 0.0, 0.0)


def pose_at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Where base is in map: it drives 1 m/s and turns 30 degrees a second."""
    turn = Rotation.from_euler('z', 30 * seconds, degrees=True).as_quat()
    return np.array([seconds, 0.0, 0.0]), turn


def record(
    path: Path,
    kind: str = 'mcap',
    *,
    count: int = COUNT,
    compressed: bool = False,
    poses: str = 'tf',
    skip: Callable[[str, int], bool] = lambda topic, i: False,
    extra: Callable[[Recorder], None] = lambda recorder: None,
    info: bool = True,
) -> Path:
    """A bag at 10 Hz: depth, colour 4 ms later, poses every 50 ms that begin and end with depth."""
    with Recorder(path, kind) as bag:
        static = [
            (START_NS, 'base', 'color_optical', (0, 0, 0), (0, 0, 0, 1)),
            (START_NS, 'base', 'depth_optical', DEPTH_OFFSET, (0, 0, 0, 1)),
        ]
        bag.write('/tf_static', bag.tf(static), START_NS)
        for k in range(2 * count - 1):
            stamp = START_NS + k * 50 * MS
            translation, turn = pose_at(k * 0.05)
            if poses == 'tf':
                item = (stamp, 'map', 'base', translation, turn)
                bag.write('/tf', bag.tf([item]), stamp + 5 * MS)
            elif poses == 'odometry':
                odometry = bag.odometry(stamp, 'odom', 'base', translation, turn)
                bag.write('/odom', odometry, stamp + 5 * MS)
            if k % 2 == 0:
                write_images(bag, stamp, k // 2, compressed, skip, info)
        extra(bag)
        return bag.path


def write_images(
    bag: Recorder,
    stamp: int,
    i: int,
    compressed: bool,
    skip: Callable[[str, int], bool],
    info: bool,
) -> None:
    depth = np.full((30, 40), 1000 + i, np.uint16)
    rgb = np.full((48, 64, 3), (10 * i, 100, 200), np.uint8)
    if not skip('depth', i):
        if compressed:
            data, form = compressed_depth_16(depth), '16UC1; compressedDepth png'
            message = bag.compressed(stamp, 'depth_optical', data, form)
            bag.write('/cam/depth/image_raw/compressedDepth', message, stamp + 6 * MS)
        else:
            message = bag.image(stamp, 'depth_optical', depth, '16UC1')
            bag.write('/cam/depth/image_raw', message, stamp + 6 * MS)
    if not skip('color', i):
        late = stamp + 4 * MS
        if compressed:
            message = bag.compressed(late, 'color_optical', jpeg(rgb), 'rgb8; jpeg compressed bgr8')
            bag.write('/cam/color/image_raw/compressed', message, late + 9 * MS)
        else:
            message = bag.image(late, 'color_optical', rgb, 'rgb8')
            bag.write('/cam/color/image_raw', message, late + 9 * MS)
    if info:
        depth_info = bag.camera_info(stamp, 'depth_optical', (40, 30), DEPTH_K)
        bag.write('/cam/depth/camera_info', depth_info, stamp + 6 * MS)
        color_info = bag.camera_info(stamp, 'color_optical', (64, 48), COLOR_K)
        bag.write('/cam/color/camera_info', color_info, stamp + 6 * MS)


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('kind', FORMATS)
def test_frames_of_every_format(tmp_path: Path, kind: str, compressed: bool) -> None:
    bag = PosedRgbdBag(record(tmp_path / 'bag', kind, compressed=compressed))
    frames = list(bag)
    assert len(frames) == len(bag) == COUNT
    assert not bag.dropped
    assert bag.frame_id == 'map'
    assert (frames[0].depth_camera.fx, frames[0].color_camera.width) == (50, 64)
    for i, frame in enumerate(frames):
        assert frame.stamp_ns == START_NS + i * 100 * MS + 4 * MS
        assert (frame.depth_m == np.float32(1 + i / 1000)).all()
        np.testing.assert_allclose(frame.rgb[24, 32], (10 * i, 100, 200), atol=4)


def test_poses_are_those_of_each_images_own_stamp(tmp_path: Path) -> None:
    for i, frame in enumerate(PosedRgbdBag(record(tmp_path / 'bag'))):
        translation, turn = pose_at(i * 0.1)
        map_from_base = matrix_from_quaternion(turn, translation)
        offset = matrix_from_quaternion((0, 0, 0, 1), DEPTH_OFFSET)
        np.testing.assert_allclose(frame.map_from_depth, map_from_base @ offset, atol=1e-6)
        # Colour comes 4 ms later; after the last transform it is taken to stand still.
        late = i * 0.1 + (0.004 if i < COUNT - 1 else 0)
        np.testing.assert_allclose(frame.map_from_color[:3, 3], (late, 0, 0), atol=1e-6)


def test_odometry_places_the_camera_where_tf_does_not(tmp_path: Path) -> None:
    bag = PosedRgbdBag(record(tmp_path / 'bag', poses='odometry'))
    assert bag.frame_id == 'odom'
    assert [f.map_from_color[0, 3] for f in bag][:2] == pytest.approx([0.004, 0.104])


def test_default_topics_of_isaac_sim(tmp_path: Path) -> None:
    depth = np.full((30, 40), 2.5, np.float32)
    depth[0, 0] = np.inf
    rgb = np.full((30, 40, 3), 70, np.uint8)
    with Recorder(tmp_path / 'bag', 'mcap') as bag:
        for i in range(3):
            stamp = i * 100 * MS  # simulated time begins at 0
            item = (stamp, 'World', 'sim_camera', (i, 0, 0), (0, 0, 0, 1))
            bag.write('/tf', bag.tf([item]), START_NS + stamp)
            bag.write('/rgb', bag.image(stamp, 'sim_camera', rgb, 'rgb8'), START_NS + stamp)
            bag.write('/depth', bag.image(stamp, 'sim_camera', depth, '32FC1'), START_NS + stamp)
            info = bag.camera_info(stamp, 'sim_camera', (40, 30), DEPTH_K)
            bag.write('/camera_info', info, START_NS + stamp)
    bag = PosedRgbdBag(tmp_path / 'bag')
    frames = list(bag)
    assert bag.frame_id == 'World'
    assert [f.stamp_ns for f in frames] == [0, 100 * MS, 200 * MS]
    assert [f.map_from_depth[0, 3] for f in frames] == [0, 1, 2]
    assert frames[0].color_camera == frames[0].depth_camera
    assert np.isnan(frames[0].depth_m[0, 0])
    assert frames[0].depth_m[1, 1] == 2.5


def test_a_missing_image_shifts_nothing(tmp_path: Path) -> None:
    path = record(
        tmp_path / 'bag', skip=lambda topic, i: (topic, i) in {('color', 2), ('depth', 5)}
    )
    bag = PosedRgbdBag(path)
    frames = list(bag)
    assert [round(float(f.depth_m[0, 0]) * 1000) - 1000 for f in frames] == [0, 1, 3, 4, 6, 7]
    assert [int(f.rgb[0, 0, 0]) // 10 for f in frames] == [0, 1, 3, 4, 6, 7]
    assert sum(bag.dropped.values()) == 2
    assert all('without a partner within 20 ms' in reason for reason in bag.dropped)


def test_slop_narrower_than_the_offset_pairs_nothing(tmp_path: Path) -> None:
    bag = PosedRgbdBag(record(tmp_path / 'bag'), PosedRgbdConfig(slop_s=0.003))
    assert list(bag) == []
    assert sum(bag.dropped.values()) == 2 * COUNT


def test_frames_without_a_pose_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def later(bag: Recorder) -> None:
        for i in range(COUNT, COUNT + 3):
            write_images(bag, START_NS + i * 100 * MS, i, False, lambda *_: False, True)

    bag = PosedRgbdBag(record(tmp_path / 'bag', extra=later))
    with caplog.at_level(logging.WARNING):
        assert len(list(bag)) == COUNT
    assert bag.dropped == {'no pose': 3}
    assert 'base in map is not known' in caplog.text
    assert "left out {'no pose': 3}" in caplog.text


def test_a_broken_image_is_left_out_and_the_rest_stays_paired(tmp_path: Path) -> None:
    def broken(bag: Recorder) -> None:
        stamp = START_NS + 3 * 100 * MS
        form = 'rgb8; jpeg compressed bgr8'
        message = bag.compressed(stamp + 4 * MS, 'color_optical', b'no jpeg', form)
        bag.write('/cam/color/image_raw/compressed', message, stamp + 13 * MS)

    path = record(
        tmp_path / 'bag',
        'sqlite3',
        compressed=True,
        skip=lambda topic, i: (topic, i) == ('color', 3),
        extra=broken,
    )
    bag = PosedRgbdBag(path)
    assert [int(f.rgb[0, 0, 0] + 5) // 10 for f in bag] == [0, 1, 2, 4, 5, 6, 7]
    assert bag.dropped == {'not decodable': 1}


def test_iterating_twice_gives_the_same(tmp_path: Path) -> None:
    bag = PosedRgbdBag(record(tmp_path / 'bag'))
    assert [f.stamp_ns for f in bag] == [f.stamp_ns for f in bag]


def test_a_long_bag_is_not_held_in_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        bag = PosedRgbdBag(record(tmp_path / f'bag{count}', 'sqlite3', count=count))
        gc.collect()
        tracemalloc.start()
        assert sum(1 for _ in bag) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    pixels = 30 * 40 * 2 + 48 * 64 * 3
    assert peak(160) - peak(40) < 20 * pixels  # 120 frames more


def test_several_cameras_must_be_chosen_from(tmp_path: Path) -> None:
    def second(bag: Recorder) -> None:
        rgb = np.zeros((48, 64, 3), np.uint8)
        bag.write('/rear/color/image_raw', bag.image(START_NS, 'rear', rgb, 'rgb8'), START_NS + MS)

    path = record(tmp_path / 'bag', 'sqlite3', extra=second)
    with pytest.raises(BagError, match=r'several topics for color_topic.*/cam/color.*/rear/color'):
        PosedRgbdBag(path)
    bag = PosedRgbdBag(path, PosedRgbdConfig(color_topic='/cam/color/image_raw'))
    assert len(list(bag)) == COUNT
    with pytest.raises(BagError, match=r'no topic /front \(color_topic\)'):
        PosedRgbdBag(path, PosedRgbdConfig(color_topic='/front'))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'info': False}, 'no /cam/color/camera_info .*color_info_topic'),
        ({'skip': lambda topic, i: topic == 'depth'}, 'no topic for depth_topic'),
        ({'skip': lambda topic, i: topic == 'color'}, 'no topic for color_topic'),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(BagError, match=words):
        PosedRgbdBag(record(tmp_path / 'bag', **changes))


def test_a_camera_that_never_moves_has_the_pose_of_its_mount(tmp_path: Path) -> None:
    bag = PosedRgbdBag(record(tmp_path / 'bag', poses='none'))
    assert bag.frame_id == 'base'
    assert len(list(bag)) == COUNT


def test_a_bag_without_poses_is_named(tmp_path: Path) -> None:
    with Recorder(tmp_path / 'bag', 'mcap') as bag:
        write_images(bag, START_NS, 0, False, lambda *_: False, True)
    with pytest.raises(BagError, match='holds no poses: neither tf nor odometry'):
        PosedRgbdBag(tmp_path / 'bag')


def test_damage_ends_the_iteration_with_an_error(tmp_path: Path) -> None:
    path = record(tmp_path / 'bag', 'sqlite3')
    bag = PosedRgbdBag(path)
    (file,) = path.glob('*.db3')
    data = bytearray(file.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 8192):
        data[at] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises((DamagedBagError, BagError)):
        list(bag)


def test_bad_config_is_named() -> None:
    with pytest.raises(ValueError, match='slop_s = -1'):
        PosedRgbdConfig(slop_s=-1)
    with pytest.raises(ValueError, match='hold_s = nan'):
        PosedRgbdConfig(hold_s=float('nan'))


@pytest.mark.parametrize(('name', 'count'), [('kitchen_mcap_zstd', 25), ('kitchen_sqlite3', 8)])
def test_recorded_kitchen(vlm_data: Path, name: str, count: int) -> None:
    bag = PosedRgbdBag(vlm_data / 'bags' / name)
    frames = list(bag)
    assert len(frames) == len(bag) == count
    assert not bag.dropped
    assert not bag.problems
    assert bag.depth.frame_id == 'camera_depth_optical_frame'
    assert bag.frame_id == 'map'
    folder = vlm_data / 'kitchen_rgbd'
    first = np.loadtxt(folder / 'frame-000000.pose.txt')
    np.testing.assert_allclose(frames[0].map_from_depth, first, atol=1e-3)
    assert frames[0].color_camera.fx == 526.5
    assert 0.5 < np.nanmedian(frames[0].depth_m) < 4


def test_killed_recording_names_its_cure(vlm_data: Path) -> None:
    with pytest.raises(BagError, match=r'killed_sqlite3_0.db3 itself'):
        PosedRgbdBag(vlm_data / 'bags' / 'killed_sqlite3')
    bag = PosedRgbdBag(vlm_data / 'bags' / 'killed_sqlite3' / 'killed_sqlite3_0.db3')
    frames = list(bag)
    assert len(frames) + sum(bag.dropped.values()) >= len(bag) - 1
    assert frames
