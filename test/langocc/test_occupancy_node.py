"""occupancy_node among cameras that do what cameras do."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rclpy
from occupancy_rig import SIZE, QuickNode, occupancy_rig, pictures
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from small_langocc import GRID, save_small

from vlm_nodes import messages
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.observer import Observer, ObserverConfig
from vlm_nodes.node import LATCHED, StartError
from vlm_nodes.simulation.street.rig import MOUNTS
from vlm_nodes.surround import CAMERAS


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp('langocc') / 'run')


def expected(checkpoint, seen=None, poses=None):
    """What the network says without a node, and its observer."""
    observer = Observer(ObserverConfig(checkpoint))
    shown = {name: image for name, image in pictures().items() if seen is None or name in seen}
    views = {
        name: RigView(
            MOUNTS[name].camera(*SIZE), (poses or {}).get(name, MOUNTS[name].ego_from_camera)
        )
        for name in shown
    }
    return observer, observer.look(shown, views)


def check_cloud(cloud, moment):
    points, values = messages.cloud_arrays(cloud)
    np.testing.assert_allclose(points, moment.voxels.points_m, atol=1e-5)
    np.testing.assert_allclose(values['density'], moment.voxels.density, rtol=1e-3)
    np.testing.assert_array_equal(values['class'], moment.voxels.classes)
    np.testing.assert_allclose(values['score'], moment.voxels.scores, atol=1e-3)
    np.testing.assert_array_equal(values['rgb'], moment.voxels.colours())


def test_what_the_network_says_is_published_in_the_vehicles_frame(checkpoint, ros_domain):
    _, moment = expected(checkpoint)
    assert 100 < len(moment.voxels) <= np.prod(GRID.shape)
    with occupancy_rig(ros_domain, checkpoint) as rig:
        rig.uses(*CAMERAS)
        cloud = rig.next_cloud()
        check_cloud(cloud, moment)
        assert cloud.header.frame_id == 'base_link'
        grid = rig.next_of(rig.grids)
        assert grid.header.frame_id == 'base_link'
        assert (grid.info.width, grid.info.height) == GRID.shape[:2]
        assert grid.info.resolution == pytest.approx(1.6)
        assert (grid.info.origin.position.x, grid.info.origin.position.y) == (-8, -8)
        cells = np.array(grid.data, np.int8).reshape(moment.cells.shape)
        assert np.abs(cells.astype(int) - moment.cells).max() <= 1
        rig.until(lambda: rig.problem() == 'OK', 'a healthy node')


def test_compressed_pictures_are_used_and_damaged_ones_named(checkpoint, ros_domain):
    header = messages.header_message('', 1)
    decoded = {
        name: messages.rgb_from_image(messages.jpeg_message(picture, header))
        for name, picture in pictures().items()
    }
    views = {n: RigView(MOUNTS[n].camera(*SIZE), MOUNTS[n].ego_from_camera) for n in CAMERAS}
    moment = Observer(ObserverConfig(checkpoint)).look(decoded, views)
    options = {'compressed': True, 'image_transport': 'compressed'}
    with occupancy_rig(ros_domain, checkpoint, **options) as rig:
        rig.uses(*CAMERAS)
        check_cloud(rig.next_cloud(), moment)
        rig.damaged = {'CAM_BACK'}
        rig.uses(*(name for name in CAMERAS if name != 'CAM_BACK'))
        assert '\n' not in rig.complains('CAM_BACK: colour image')


def test_missing_cameras_are_named_and_done_without(checkpoint, ros_domain):
    _, moment = expected(checkpoint, seen=CAMERAS[1:])

    def prepare(rig):
        rig.silent.add('CAM_FRONT_LEFT/image_raw')

    # Moments wait for cameras that are late, not for one that does not live.
    with occupancy_rig(ros_domain, checkpoint, prepare=prepare, camera_alive_s=3.0) as rig:
        rig.uses(*CAMERAS[1:])
        check_cloud(rig.next_cloud(), moment)
        rig.complains('CAM_FRONT_LEFT: no image for', 'CAM_FRONT_LEFT/image_raw')
        rig.silent.clear()
        rig.uses(*CAMERAS)
        rig.complains('OK')


def test_lift_indices_are_made_again_only_when_calibration_changes(checkpoint, ros_domain):
    with occupancy_rig(ros_domain, checkpoint) as rig:
        rig.uses(*CAMERAS)
        seen = rig.count('moments seen')
        rig.until(lambda: rig.count('moments seen') > seen + 5, 'more moments')
        assert rig.count('lift tables made') == 1
        other = dataclasses.replace(rig.infos['CAM_BACK'], fx=31.0)
        rig.infos = {**rig.infos, 'CAM_BACK': other}
        rig.until(lambda: rig.count('lift tables made') == 2, 'a new table')
        rig.mount('CAM_FRONT', moved=MOUNTS['CAM_BACK'].ego_from_camera)
        rig.until(lambda: rig.count('lift tables made') == 3, 'a new table')
        seen = rig.count('moments seen')
        rig.until(lambda: rig.count('moments seen') > seen + 5, 'more moments')
        assert rig.count('lift tables made') == 3


def test_texts_are_found_where_their_voxels_are(checkpoint, ros_domain):
    observer, moment = expected(checkpoint)
    texts = ['red mug', 'table']
    found = observer.find(moment, texts, 0.1)
    with occupancy_rig(ros_domain, checkpoint, query_threshold=0.1) as rig:
        clouds = []
        rig.listen(PointCloud2, 'occupancy_node/query_cloud', clouds, LATCHED)
        rig.uses(*CAMERAS)
        answer = rig.ask(*texts)
        assert answer.success, answer.message
        assert "'red mug'" in answer.message
        assert answer.header.frame_id == 'base_link'
        positions = [(p.x, p.y, p.z) for p in answer.positions]
        np.testing.assert_allclose(positions, found.positions_m, atol=1e-4)
        np.testing.assert_allclose(answer.scores, found.scores, atol=1e-3)
        assert list(answer.voxels) == found.counts.tolist()
        cloud = rig.until(lambda: clouds, 'the cloud of fitting voxels')[0]
        points, values = messages.cloud_arrays(cloud)
        np.testing.assert_allclose(points, moment.voxels.points_m[found.fitting], atol=1e-5)
        np.testing.assert_allclose(values['intensity'], found.best_scores, atol=1e-3)
        np.testing.assert_array_equal(values['label'], found.best)
        nothing = rig.ask('table', threshold=1.0)
        assert nothing.success
        assert list(nothing.voxels) == [0]
        assert nothing.scores[0] == pytest.approx(found.scores[1], abs=1e-3)
        assert 'at least one' in rig.ask().message
        assert not rig.ask('table', ' ').success


def test_who_asks_before_anything_was_seen_is_told_what_is_missing(checkpoint, ros_domain):
    def prepare(rig):
        rig.silent.update(f'{name}/image_raw' for name in CAMERAS)

    with occupancy_rig(ros_domain, checkpoint, prepare=prepare) as rig:
        answer = rig.ask('table')
        assert not answer.success
        assert 'nothing was seen yet' in answer.message
        said = rig.complains('CAM_BACK: no image for', 'no message has come')
        assert '\n' not in said


def test_cameras_that_lack_something_are_named_with_what_it_is(checkpoint, ros_domain):
    def prepare(rig):
        rig.infos = {**rig.infos, 'CAM_BACK': None}
        rig.pictures = {
            **rig.pictures,
            'CAM_FRONT_LEFT': np.full((SIZE[1], SIZE[0], 3), np.nan, np.float32),
            'CAM_BACK_LEFT': np.zeros((SIZE[1] + 1, SIZE[0], 3), np.uint8),
        }

    options = {'without_tf': ('CAM_FRONT',), 'tf_timeout_s': 0.3, 'prepare': prepare}
    with occupancy_rig(ros_domain, checkpoint, **options) as rig:
        rig.uses('CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT')
        said = rig.complains(
            "CAM_FRONT: no transform from 'CAM_FRONT' to 'base_link'",
            'CAM_BACK: ',
            'the camera is not calibrated',
            'CAM_FRONT_LEFT: ',
            '[32FC3] does not say what its channels mean',
            'CAM_BACK_LEFT: its picture has 64x33 pixels, its camera_info says 64x32',
        )
        assert '\n' not in said
        rig.mount('CAM_FRONT')
        rig.pictures, rig.infos = (
            pictures(),
            {**rig.infos, 'CAM_BACK': MOUNTS['CAM_BACK'].camera(*SIZE)},
        )
        rig.uses(*CAMERAS)
        rig.complains('OK')


def test_a_camera_whose_clock_is_another_is_told(checkpoint, ros_domain):
    def prepare(rig):
        rig.late_ns = {'CAM_BACK': -3_600_000_000_000}

    with occupancy_rig(ros_domain, checkpoint, prepare=prepare, set_wait_s=0.3) as rig:
        rig.complains('CAM_BACK', "never within 0.1 s of other cameras' images")
        rig.uses(*(name for name in CAMERAS if name != 'CAM_BACK'))


def test_time_that_jumps_back_empties_what_waits(checkpoint, ros_domain):
    with occupancy_rig(ros_domain, checkpoint) as rig:
        rig.uses(*CAMERAS)
        newest_ns = messages.stamp_ns(rig.next_cloud().header.stamp)
        rig.shift_ns = -100_000_000_000
        rig.until(lambda: rig.count('restarts of time') >= 1, 'a restart')

        def is_seen_anew():
            # As a driver that is started again does; a picture that came late restarts time once
            # more, and has it forgotten again.
            rig.mount(*CAMERAS)
            rig.values()
            return messages.stamp_ns(rig.clouds[-1].header.stamp) < newest_ns - 50_000_000_000

        rig.until(is_seen_anew, 'a cloud of the new time')
        rig.uses(*CAMERAS)
        assert rig.ask('table').success


def test_pictures_are_used_from_where_the_vehicle_was(checkpoint, ros_domain):
    """Driving ahead at 25 m/s, one camera 40 ms before the others."""
    speed, late_ns = 25.0, -40_000_000

    def pose(stamp_ns):
        matrix = np.eye(4)
        # A place that repeats keeps numbers small; all stamps of a moment are of one repetition.
        matrix[0, 3] = speed * (stamp_ns % 10**13) * 1e-9
        return matrix

    behind = np.eye(4)
    behind[0, 3] = speed * late_ns * 1e-9
    moved = {'CAM_FRONT': behind @ MOUNTS['CAM_FRONT'].ego_from_camera}
    _, moment = expected(checkpoint, poses=moved)
    _, still = expected(checkpoint)
    assert not np.allclose(moment.voxels.density[:50], still.voxels.density[:50], rtol=1e-3)

    def prepare(rig):
        rig.pose = pose
        rig.late_ns = {'CAM_FRONT': late_ns}

    # The camera's next picture comes 60 ms after the others, and belongs to the next moment.
    options = {'fixed_frame': 'odom', 'set_slop_s': 0.05, 'prepare': prepare}
    with occupancy_rig(ros_domain, checkpoint, **options) as rig:
        rig.uses(*CAMERAS)
        check_cloud(rig.next_cloud(), moment)
    np.testing.assert_allclose(invert(behind)[0, 3], 1.0)


def test_an_earlier_moment_is_fused_where_the_network_does(tmp_path, ros_domain):
    """A vehicle that stands: every moment but the first is fused with the same one."""
    checkpoint = save_small(tmp_path / 'run', previous=True)
    observer = Observer(ObserverConfig(checkpoint))
    views = {
        name: RigView(MOUNTS[name].camera(*SIZE), MOUNTS[name].ego_from_camera) for name in CAMERAS
    }
    alone = observer.look(pictures(), views)
    observer.look(pictures(), views, np.eye(4))
    fused = observer.look(pictures(), views, np.eye(4))
    assert len(alone.voxels) != len(fused.voxels) or not np.allclose(
        alone.voxels.density, fused.voxels.density, rtol=1e-3
    )
    observer.forget()
    again = observer.look(pictures(), views, np.eye(4))
    np.testing.assert_allclose(again.voxels.density, alone.voxels.density, rtol=1e-4)

    def prepare(rig):
        rig.pose = lambda stamp_ns: np.eye(4)

    with occupancy_rig(ros_domain, checkpoint, fixed_frame='odom', prepare=prepare) as rig:
        rig.uses(*CAMERAS)
        seen = rig.count('moments seen')
        rig.until(lambda: rig.count('moments seen') > seen + 2, 'fused moments')
        check_cloud(rig.next_cloud(), fused)


def test_features_are_published_where_they_are_asked_for(checkpoint, ros_domain):
    _, moment = expected(checkpoint)
    with occupancy_rig(ros_domain, checkpoint, publish_features=True) as rig:
        heard = []
        rig.listen(PointCloud2, 'occupancy_node/features', heard, LATCHED)
        rig.uses(*CAMERAS)
        cloud = rig.next_of(heard)
        _, values = messages.cloud_arrays(cloud)
        columns = np.column_stack([values[f'f{i}'] for i in range(6)])
        np.testing.assert_allclose(columns, moment.voxels.hidden, atol=1e-3)


def test_without_being_asked_features_are_not_published(checkpoint, ros_domain):
    with occupancy_rig(ros_domain, checkpoint) as rig:
        names = [publisher.topic_name for publisher in rig.node.publishers]
        assert '/occupancy_node/occupancy' in names
        assert '/occupancy_node/features' not in names


def test_a_publisher_that_cannot_be_heard_is_named(checkpoint, ros_domain):
    with occupancy_rig(ros_domain, checkpoint, best_effort=True) as rig:
        rig.complains('CAM_BACK/image_raw', 'offers best effort', 'set sensor_reliability')


def test_simulated_time_that_nobody_publishes_is_said(checkpoint, ros_domain):
    with occupancy_rig(ros_domain, checkpoint, use_sim_time=True) as rig:
        rig.silent.update(rig.publishers)
        rig.complains('use_sim_time is set, but nobody publishes /clock')


def broken(checkpoint, folder):
    folder.mkdir()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        data = (checkpoint / name).read_bytes()
        (folder / name).write_bytes(data[: -len(data) // 3] if name == WEIGHTS_NAME else data)
    return folder


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'checkpoint': ''}, 'parameter checkpoint is empty'),
        ({'checkpoint': '/nowhere'}, 'cannot read a LangOcc checkpoint'),
        ({'checkpoint': 'broken'}, 'it is damaged, or of another training'),
        (
            {'voxel_m': 0.4, 'lower_m': [-40.0, -40.0, -1.0], 'upper_m': [40.0, 40.0, 5.4]},
            'in 1.6 m, not from (-40.0, -40.0, -1.0) to (40.0, 40.0, 5.4) m in 0.4 m',
        ),
        ({'voxel_m': 0.3, 'upper_m': [1.0, 1.0, 1.0]}, 'do not divide x'),
        ({'voxel_m': 0.4, 'upper_m': [1.0, 1.0]}, 'upper_m must be 3 numbers'),
        ({'cameras': ['CAM_TOP']}, 'knows no camera CAM_TOP'),
        ({'classes': ['dragon']}, 'no prompts for classes dragon'),
        ({'grid_min_z_m': 3.0, 'grid_max_z_m': 2.0}, 'low_m 3.0 must be below'),
        ({'grid_min_z_m': 7.0, 'grid_max_z_m': 9.0}, 'no layer of the grid'),
        ({'ground_classes': ['lava']}, "ground classes ['lava']"),
        ({'prompts': '/nowhere.json'}, '/nowhere.json holds no prompts'),
        ({'base_frame': ''}, 'parameter base_frame is empty'),
        ({'device': 'cuda:77'}, "device 'cuda:77'"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(
    checkpoint, ros_domain, tmp_path, parameters, reason
):
    if parameters.get('checkpoint') == 'broken':
        parameters = {'checkpoint': str(broken(checkpoint, tmp_path / 'broken'))}
    parameters = {'checkpoint': str(checkpoint), **parameters}
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    try:
        with pytest.raises(StartError) as caught:
            QuickNode(context=context, parameter_overrides=overrides)
    finally:
        context.shutdown()
    assert reason in str(caught.value)
    assert '\n' not in str(caught.value)


def test_texts_are_kept_beside_the_checkpoint_where_it_can_be_written(checkpoint):
    expected(checkpoint)
    assert list(Path(checkpoint / 'texts').glob('texts-*.npz'))
