import json
import logging
import os
import pickle

import numpy as np
import pytest
from table_writing import SIZE, drive_tables, write_tables

from vlm_nodes.surround import NuScenes, SurroundError, read_image, read_points
from vlm_nodes.surround import index as index_module
from vlm_nodes.surround.nuscenes import relative_path

TWO = ('CAM_FRONT', 'CAM_BACK')


@pytest.fixture
def root(tmp_path):
    return write_tables(tmp_path, drive_tables())


def test_keyframes_come_scene_by_scene_in_time_order(root):
    drives = NuScenes(root, cameras=TWO)
    assert len(drives) == 8
    assert [k.scene for k in drives] == ['scene-0000'] * 5 + ['scene-0001'] * 3
    assert [k.token for k in drives[:3]] == ['sample0-0', 'sample0-1', 'sample0-2']
    assert drives.scenes() == {'scene-0000': [0, 1, 2, 3, 4], 'scene-0001': [5, 6, 7]}
    assert drives.index_of('sample1-1') == 6
    assert drives[-1].token == 'sample1-2'
    with pytest.raises(IndexError):
        drives[8]


def test_poses_and_calibration_are_those_of_each_picture(root):
    keyframe = NuScenes(root, cameras=TWO, lidar=True)[1]
    front, back = keyframe.cameras['CAM_FRONT'], keyframe.cameras['CAM_BACK']
    assert (front.camera.width, front.camera.height) == SIZE
    assert (front.camera.fx, front.camera.cx, front.camera.cy) == (20.0, 15.5, 8.5)
    assert front.stamp_ns == keyframe.stamp_ns == 500_000_000
    assert back.stamp_ns == 520_000_000
    # The vehicle looks along the map's y, so what is one metre ahead of the camera at (0.5, 0, 1.5)
    # is 1.5 m further along y.
    assert np.allclose(front.map_from_camera @ (0, 0, 1, 1), (5.0, 8.5, 1.5, 1))
    assert np.allclose(front.map_from_camera @ (1, 0, 0, 1), (6.0, 7.5, 1.5, 1))
    # 20 ms later the vehicle was 0.2 m further along the map's x, its own right.
    assert np.allclose(keyframe.ego_from_camera('CAM_FRONT'), front.ego_from_camera)
    assert np.allclose(keyframe.ego_from_camera('CAM_BACK')[:3, 3], (1.5, -0.2, 1.5))
    assert np.allclose(keyframe.map_from_ego[:3, 3], (5.0, 7.0, 0.0))
    assert keyframe.lidar.path.name == 'sample0-1.bin'


def test_files_are_read(root):
    keyframe = NuScenes(root, cameras=TWO, lidar=True, require_files=True)[0]
    rgb = read_image(keyframe.cameras['CAM_BACK'])
    assert rgb.shape == (SIZE[1], SIZE[0], 3)
    assert (rgb[3, 3] == (200, 0, 0)).all()
    np.testing.assert_array_equal(read_points(keyframe.lidar)[1], [5, 6, 7, 8, 9])


def test_a_subset_of_cameras_keeps_its_order(root):
    assert list(NuScenes(root, cameras=('CAM_BACK', 'CAM_FRONT'))[0].cameras) == [
        'CAM_BACK',
        'CAM_FRONT',
    ]
    assert list(NuScenes(root, cameras=('CAM_BACK',))[0].cameras) == ['CAM_BACK']
    with pytest.raises(SurroundError, match='CAM_TOP; its cameras are CAM_BACK, CAM_FRONT'):
        NuScenes(root, cameras=('CAM_FRONT', 'CAM_TOP'))
    with pytest.raises(SurroundError, match='twice'):
        NuScenes(root, cameras=('CAM_FRONT', 'CAM_FRONT'))


def test_keyframes_and_data_sets_go_to_other_processes(root):
    drives = pickle.loads(pickle.dumps(NuScenes(root, cameras=TWO)))
    keyframe = pickle.loads(pickle.dumps(drives[2]))
    assert keyframe.token == 'sample0-2'
    np.testing.assert_array_equal(keyframe.map_from_ego, drives[2].map_from_ego)


def test_neighbours_stay_within_the_scene_and_count_what_is_left_out(root):
    drives = NuScenes(root, cameras=TWO)
    assert drives.neighbours(4) == [0, 1, 2, 3, 4]
    assert drives.neighbours(5, 2, 1) == [5, 6]
    assert drives.neighbours(2, 1, 1) == [1, 2, 3]
    (root / 'samples/CAM_FRONT/sample0-2.png').unlink()
    fewer = NuScenes(root, cameras=TWO, require_files=True)
    # sample0-3 is now at place 2; two samples before it are 0-2, which is gone, and 0-1.
    assert [fewer[i].token for i in fewer.neighbours(2, 2, 1)] == [
        'sample0-1',
        'sample0-3',
        'sample0-4',
    ]


def test_missing_files_are_left_out_counted_and_said_or_an_error_when_read(root, caplog):
    for number in (1, 3):
        (root / f'samples/CAM_FRONT/sample0-{number}.png').unlink()
    with caplog.at_level(logging.WARNING):
        drives = NuScenes(root, cameras=TWO, require_files=True)
    assert len(drives) == 6
    assert drives.left_out.without_files == 2
    assert drives.left_out.first_missing.name == 'sample0-1.png'
    assert '2 without all files' in caplog.text
    # The other camera's files are all there.
    assert len(NuScenes(root, cameras=('CAM_BACK',), require_files=True)) == 8
    lenient = NuScenes(root, cameras=TWO)
    assert len(lenient) == 8
    with pytest.raises(SurroundError, match=r'sample0-1\.png is missing.*--require-files'):
        read_image(lenient[1].cameras['CAM_FRONT'])


def test_no_file_at_all_is_an_error_that_names_one(tmp_path):
    write_tables(tmp_path, drive_tables(), files=False)
    with pytest.raises(SurroundError, match=r'leaves no keyframe: 8 without all files .*sample0-0'):
        NuScenes(tmp_path, cameras=TWO, require_files=True)


def test_rows_that_are_absent(tmp_path):
    tables = drive_tables()
    gone = {'d-sample0-0-CAM_FRONT-True', 'd-sample0-0-CAM_BACK-True', 'd-sample0-1-CAM_BACK-True'}
    tables['sample_data'] = [r for r in tables['sample_data'] if r['token'] not in gone]
    drives = NuScenes(write_tables(tmp_path, tables), cameras=TWO)
    assert drives.left_out.without_rows == 1
    assert list(drives[0].cameras) == ['CAM_FRONT']
    assert len(NuScenes(tmp_path, cameras=TWO, lidar=True)) == 7


@pytest.mark.parametrize('table', index_module.NAMES)
def test_a_missing_table_is_named(root, table):
    (root / 'v1.0-made' / f'{table}.json').unlink()
    if table == 'sample':
        with pytest.raises(SurroundError, match=r'no nuScenes tables: expected sample\.json'):
            NuScenes(root, cameras=TWO)
    with pytest.raises(SurroundError, match=rf'{table}\.json is missing'):
        NuScenes(root, version='v1.0-made', cameras=TWO)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[{"token": "a"', r'broken after row 0'),
        ('[{"token": "a", "name": "b"}, {"tok', r'broken after row 1'),
        ('[{"token": "a", "name": "b"}', r'broken after row 1'),
        ('{"token": "a"}', r'not a JSON list'),
        ('', r'not a JSON list'),
        ('[{"token": "a"}]', r'row 1 has no name'),
        ('[3]', r'row 1 is not an object'),
    ],
)
def test_a_broken_table_is_named(root, content, message):
    (root / 'v1.0-made/scene.json').write_text(content)
    with pytest.raises(SurroundError, match=rf'scene\.json.*{message}'):
        NuScenes(root, cameras=TWO)


def test_a_table_in_another_encoding(root):
    (root / 'v1.0-made/scene.json').write_bytes('[{"token": "straße"}]'.encode('latin-1'))
    with pytest.raises(SurroundError, match=r'scene\.json is not text in UTF-8'):
        NuScenes(root, cameras=TWO)


def test_cameras_without_calibration(tmp_path):
    tables = drive_tables()
    tables['calibrated_sensor'][1]['camera_intrinsic'] = []
    write_tables(tmp_path / 'a', tables)
    with pytest.raises(SurroundError, match="'c-CAM_BACK', of CAM_BACK, has no camera_intrinsic"):
        NuScenes(tmp_path / 'a', cameras=TWO)
    assert len(NuScenes(tmp_path / 'a', cameras=('CAM_FRONT',))) == 8
    del tables['calibrated_sensor'][1]
    write_tables(tmp_path / 'b', tables)
    with pytest.raises(SurroundError, match="CAM_BACK of sample 'sample0-0' has no calibration"):
        NuScenes(tmp_path / 'b', cameras=TWO)
    tables['calibrated_sensor'][0]['rotation'] = [0.0, 0.0, 0.0, 0.0]
    write_tables(tmp_path / 'c', tables)
    with pytest.raises(SurroundError, match=r"'c-CAM_FRONT', of CAM_FRONT.*not a pose"):
        NuScenes(tmp_path / 'c', cameras=('CAM_FRONT',))[0]


def test_a_missing_pose_is_named(tmp_path):
    tables = drive_tables()
    lost = 'sample1-0-CAM_FRONT-True'
    tables['ego_pose'] = [row for row in tables['ego_pose'] if row['token'] != lost]
    write_tables(tmp_path, tables)
    with pytest.raises(SurroundError, match=f"CAM_FRONT of sample 'sample1-0' has no pose.*{lost}"):
        NuScenes(tmp_path, cameras=TWO)


def test_windows_paths_are_understood(tmp_path):
    tables = drive_tables()
    write_tables(tmp_path, tables)
    for row in tables['sample_data']:
        row['filename'] = 'D:\\nu scenes\\' + row['filename'].replace('/', '\\')
    write_tables(tmp_path, tables)
    drives = NuScenes(tmp_path, cameras=TWO, require_files=True)
    assert len(drives) == 8
    assert drives[0].cameras['CAM_FRONT'].path == tmp_path / 'samples/CAM_FRONT/sample0-0.png'


@pytest.mark.parametrize('name', ['../x.png', 'samples/../../x.png', '/etc/x.png', 'C:\\x.png', ''])
def test_file_names_that_leave_the_data_set_are_refused(name):
    with pytest.raises(SurroundError, match='outside'):
        relative_path(name)


def test_the_index_is_kept_and_read_again(root, monkeypatch):
    first = NuScenes(root, cameras=TWO)
    monkeypatch.setattr(index_module, '_read', lambda folder: pytest.fail('tables read again'))
    again = NuScenes(root / 'v1.0-made', cameras=TWO)
    assert [k.token for k in again] == [k.token for k in first]
    np.testing.assert_array_equal(
        again[3].cameras['CAM_BACK'].map_from_camera, first[3].cameras['CAM_BACK'].map_from_camera
    )


def test_a_changed_table_makes_a_new_index(root):
    NuScenes(root, cameras=TWO)
    path = root / 'v1.0-made/scene.json'
    stat = path.stat()
    path.write_text(path.read_text().replace('scene-0000', 'scene-9999'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert NuScenes(root, cameras=TWO)[0].scene == 'scene-9999'


def test_a_broken_index_is_made_again_and_may_lie_elsewhere(root, tmp_path):
    cache = tmp_path / 'cache'
    NuScenes(root, cameras=TWO, cache=cache)
    (kept,) = cache.iterdir()
    assert not list((root / 'v1.0-made').glob('.*'))
    kept.write_text(json.dumps({'stamp': 3}) + '"')
    assert len(NuScenes(root, cameras=TWO, cache=cache)) == 8
    assert json.loads(kept.read_text())['index']['scenes']


def test_versions_scenes_and_samples_can_be_chosen(root):
    assert len(NuScenes(root, cameras=TWO, scenes=['scene-0001'])) == 3
    assert len(NuScenes(root, cameras=TWO, max_samples=2)) == 2
    with pytest.raises(SurroundError, match='no scene scene-7'):
        NuScenes(root, cameras=TWO, scenes=['scene-7'])
    write_tables(root, drive_tables((1,)), version='v1.0-other')
    with pytest.raises(SurroundError, match=r'v1\.0-made, v1\.0-other: say which'):
        NuScenes(root, cameras=TWO)
    assert len(NuScenes(root, version='v1.0-other', cameras=TWO)) == 1
    with pytest.raises(SurroundError, match='has no v2'):
        NuScenes(root, version='v2', cameras=TWO)


def test_pictures_that_are_none_or_of_another_size(root):
    drives = NuScenes(root, cameras=TWO, lidar=True)
    path = drives[0].cameras['CAM_FRONT'].path
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(SurroundError, match='not a picture'):
        read_image(drives[0].cameras['CAM_FRONT'])
    sweep = drives[0].lidar.path
    sweep.write_bytes(sweep.read_bytes()[:-4])
    with pytest.raises(SurroundError, match='cut short'):
        read_points(drives[0].lidar)


def test_tables_longer_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr('vlm_nodes.surround.tables._CHUNK', 7)
    write_tables(tmp_path, drive_tables())
    assert len(NuScenes(tmp_path, cameras=TWO)) == 8
