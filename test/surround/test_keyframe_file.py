import json

import numpy as np
import pytest

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.surround import CAMERAS, SurroundError, read_points
from vlm_nodes.surround.keyframe_file import read_keyframe_file


@pytest.fixture(scope='module')
def real(vlm_data):
    folder = vlm_data / 'nuscenes_keyframe'
    if not folder.is_dir():
        pytest.skip(f'no {folder}')
    return read_keyframe_file(folder / 'keyframe.json')


def lidar_pixels(keyframe, name, points):
    image = keyframe.cameras[name]
    map_from_lidar = keyframe.lidar.map_from_ego @ keyframe.lidar.ego_from_lidar
    camera_from_lidar = invert(image.map_from_camera) @ map_from_lidar
    return image.camera.project(transform_points(camera_from_lidar, points))


def test_points_in_a_box_fall_into_its_projection(real):
    keyframe, boxes = real
    points = read_points(keyframe.lidar)[:, :3].astype(np.float64)
    assert len(boxes) == 69
    held = tested = 0
    for box in boxes:
        inside = points[box.contains(points)]
        held += len(inside)
        for name in CAMERAS:
            corners = lidar_pixels(keyframe, name, box.corners())
            if not np.isfinite(corners).all():
                continue
            pixels = lidar_pixels(keyframe, name, inside)
            assert (pixels >= corners.min(axis=0)).all()
            assert (pixels <= corners.max(axis=0)).all()
            tested += len(pixels)
    # The boxes' own counts, made with points of other sweeps rounded in, add up to 1009.
    assert 950 < held < 1050
    assert tested > 800


def test_boxes_lie_where_the_published_tools_project_them(real, vlm_data):
    keyframe, boxes = real
    info = json.loads((vlm_data / 'nuscenes_keyframe/keyframe.json').read_text())['data_list'][0]
    centres = np.stack([box.centre_m for box in boxes])
    compared = 0
    for name in CAMERAS:
        projected = lidar_pixels(keyframe, name, centres)
        for seen in info['cam_instances'][name]:
            distance = np.linalg.norm(projected - seen['center_2d'], axis=1)
            assert np.nanmin(distance) < 1.5
            compared += 1
    assert compared > 69


def test_each_picture_has_its_own_pose(real):
    keyframe, _ = real
    # The front picture was taken 35 ms before the sweep ended, at some 9 m/s.
    behind = keyframe.ego_from_camera('CAM_FRONT') - keyframe.cameras['CAM_FRONT'].ego_from_camera
    assert -0.4 < behind[0, 3] < -0.25
    assert np.abs(behind[1:3, 3]).max() < 0.01


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / 'keyframe.json'
    with pytest.raises(SurroundError, match=r'keyframe\.json holds no keyframe'):
        read_keyframe_file(path)
    path.write_text('{"metainfo": {"categories": {}}}')
    with pytest.raises(SurroundError, match='data_list'):
        read_keyframe_file(path)
