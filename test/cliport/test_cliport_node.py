"""cliport_node on a real graph: cameras over closed-form tables in, plans and pictures out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from cliport_rig import (
    BLOCK,
    PATIENCE_S,
    QUICK_S,
    UNSURE,
    WORKSPACE,
    cliport_rig,
    save_model,
    stamp,
)
from sensor_msgs.msg import CompressedImage, Image
from small_cliport import SENTENCE
from visualization_msgs.msg import Marker, MarkerArray

from vlm_nodes import messages
from vlm_nodes.cliport.heightmap import fuse
from vlm_nodes.cliport.planner import STAGES, Planner, PlannerConfig
from vlm_nodes.cliport.policy import CliportPolicy
from vlm_nodes.node import LATCHED
from vlm_nodes.transforms import matrix_from_pose, transform_message

LOOSE = PlannerConfig(WORKSPACE, **UNSURE)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp('cliport'))


def expected(checkpoint, rig, count=3):
    """What the planner makes of the same views."""
    planner = Planner(CliportPolicy.load(checkpoint), LOOSE)
    return planner.plan(list(rig.views.values()), SENTENCE, count)


def same_pose(message, matrix):
    np.testing.assert_allclose(matrix_from_pose(message), matrix, atol=1e-6)


def test_the_service_answers_what_the_planner_would(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        before_ns = rig.robot.get_clock().now().nanoseconds
        answer = rig.ask(SENTENCE)
        planned = expected(checkpoint, rig)
        assert answer.success, answer.message
        assert answer.header.frame_id == answer.pick.header.frame_id == 'table'
        assert messages.stamp_ns(answer.header.stamp) > before_ns  # nothing older than the question
        assert answer.latency_s > 0
        same_pose(answer.pick.pose, planned.actions[0].pick)
        same_pose(answer.place.pose, planned.actions[0].place)
        assert len(answer.candidates) == len(planned.actions) >= 1
        for candidate, action in zip(answer.candidates, planned.actions, strict=True):
            same_pose(candidate.pick, action.pick)
            same_pose(candidate.place, action.place)
            assert candidate.pick_score == pytest.approx(action.pick_score)
            assert candidate.place_score == pytest.approx(action.place_score)
        assert answer.pick_entropy == pytest.approx(planned.pick_entropy)
        assert answer.place_entropy == pytest.approx(planned.place_entropy)
        assert len(rig.ask(SENTENCE, count=1).candidates) == 1
        # Images that come late are complained of for a while.
        rig.until(lambda: rig.values()[0] == '', 'no problem')
        _, values = rig.values()
        assert values['plans'] == '2'
        assert float(values['coverage']) > 0.9
        assert float(values['agreement mm front left']) < 2
        assert float(values['age s right']) < PATIENCE_S
        assert {'ms heightmap', 'ms network', 'ms heights', 'ms request'} <= set(values)


def png(image, header, kind, head=b''):
    """A CompressedImage; `head` is what compressed_depth_image_transport puts before the PNG."""
    data = head + cv2.imencode('.png', image)[1].tobytes()
    return CompressedImage(header=header, format=kind, data=data)


def test_compressed_images_are_as_good(ros_domain, checkpoint):
    transports = {'rgb_transport': 'compressed', 'depth_transport': 'compressedDepth'}
    with cliport_rig(ros_domain, checkpoint, **transports, **UNSURE) as rig:
        topics = ('rgb/compressed', 'depth/compressedDepth')
        publishers = {
            name: [rig.robot.create_publisher(CompressedImage, f'{name}/{t}', 10) for t in topics]
            for name in rig.views
        }
        millimetres = {
            name: np.rint(np.nan_to_num(view.depth_m) * 1000).astype(np.uint16)
            for name, view in rig.views.items()
        }

        def shoot():
            now = rig.robot.get_clock().now().to_msg()
            for name, (rgb, depth) in publishers.items():
                header = messages.header_message(f'{name}_lens', now)
                rgb.publish(
                    png(rig.views[name].rgb[..., ::-1], header, 'rgb8; png compressed bgr8')
                )
                depth.publish(
                    png(millimetres[name], header, '16UC1; compressedDepth png', bytes(12))
                )

        rig.robot.create_timer(0.1, shoot)
        answer = rig.ask(SENTENCE)
        assert answer.success, answer.message
        for name, view in rig.views.items():
            depth_m = millimetres[name] / np.float32(1000)
            rig.views[name] = replace(view, depth_m=depth_m)
        same_pose(answer.pick.pose, expected(checkpoint, rig).actions[0].pick)


def test_the_action_tells_of_its_stages_and_answers_the_same(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        goal, stages = rig.send_goal(SENTENCE, count=1)
        # Nothing is told any more once the result is taken.
        rig.until(lambda: len(stages) == len(STAGES), 'the last stage')
        answer = rig.wait(goal.get_result_async())
        assert answer.status == GoalStatus.STATUS_SUCCEEDED
        assert answer.result.success
        same_pose(answer.result.place.pose, expected(checkpoint, rig).actions[0].place)
        assert tuple(stages) == STAGES
        refused, _ = rig.send_goal('')
        answer = rig.wait(refused.get_result_async())
        assert answer.status == GoalStatus.STATUS_ABORTED
        assert 'say what to pick' in answer.result.message


def test_a_goal_is_cancelled_between_stages_and_the_next_one_answered(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, image_timeout_s=600.0, **UNSURE) as rig:
        rig.silent.add('left/depth')
        goal, stages = rig.send_goal(SENTENCE)
        rig.until(lambda: stages, 'a stage')
        rig.wait(goal.cancel_goal_async())
        answer = rig.wait(goal.get_result_async())
        assert answer.status == GoalStatus.STATUS_CANCELED
        assert (answer.result.success, answer.result.message) == (False, 'cancelled')
        assert stages == ['waiting for images']
        rig.silent.clear()
        assert rig.ask(SENTENCE).success
        assert rig.values()[1]['cancelled'] == '1'


def test_more_requests_than_it_can_hold_are_told_so(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, image_timeout_s=600.0, **UNSURE) as rig:
        rig.silent.add('left/depth')
        goals = [rig.send_goal(SENTENCE)[0] for _ in range(2)]
        rig.until(lambda: not rig.node._requests._places._value, 'both to be under way')
        busy = rig.ask(SENTENCE)
        assert not busy.success
        assert busy.message.startswith('busy: 2 requests are under way')
        rig.silent.clear()
        for goal in goals:
            assert rig.wait(goal.get_result_async()).result.success


def test_pictures_come_where_somebody_looks_also_later(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        heights, late = [], {}
        rig.listen(Image, 'cliport_node/heightmap/height', heights, LATCHED)
        assert rig.ask(SENTENCE).success
        rig.until(lambda: heights, 'the height')
        for topic in ('heightmap/color', 'pick/affordance', 'place/affordance', 'overlay'):
            rig.listen(Image, f'cliport_node/{topic}', late.setdefault(topic, []), LATCHED)
        markers = []
        rig.listen(MarkerArray, 'cliport_node/markers', markers, LATCHED)
        rig.until(lambda: all(late.values()) and markers, 'the pictures')
        heightmap = fuse(list(rig.views.values()), WORKSPACE)
        planned = expected(checkpoint, rig)
        assert {m.header.frame_id for m in [heights[0], *(x[0] for x in late.values())]} == {
            'table'
        }
        height = np.frombuffer(heights[0].data, np.float32).reshape(WORKSPACE.shape)
        np.testing.assert_array_equal(np.isfinite(height), heightmap.seen)
        np.testing.assert_array_equal(np.nan_to_num(height), heightmap.height_m)
        color = messages.rgb_from_image(late['heightmap/color'][0])
        np.testing.assert_array_equal(color, heightmap.color)
        for topic, chances in (('pick', planned.plan.pick_map), ('place', planned.plan.place_map)):
            (message, *_) = late[f'{topic}/affordance']
            assert message.encoding == '32FC1'
            shown = np.frombuffer(message.data, np.float32).reshape(chances.shape)
            np.testing.assert_allclose(shown, chances, atol=1e-7)
        overlay = messages.rgb_from_image(late['overlay'][0])
        rows, columns = WORKSPACE.shape
        assert overlay.shape == (3 * columns, 3 * rows, 3)  # as seen from above
        kinds = [marker.action for marker in markers[0].markers]
        assert kinds[0] == Marker.DELETEALL
        assert len(kinds) == 1 + 3 * len(planned.actions)
        same_pose(markers[0].markers[1].pose, planned.actions[0].pick)


def test_a_heightmap_is_shown_without_a_question(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint) as rig:
        colors = []
        rig.listen(Image, 'cliport_node/heightmap/color', colors, LATCHED)
        rig.until(lambda: len(colors) >= 2, 'heightmaps')
        assert float(rig.values()[1]['coverage']) > 0.9


def test_a_robot_that_moved_waits_for_images_of_what_is_so_now(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        assert rig.ask(SENTENCE).success
        rig.stamp_ns = rig.robot.get_clock().now().nanoseconds - 10 * messages.SECOND_NS
        rig.node._rig._views.forget()
        with rig.giving_up('image_timeout_s'):
            rig.refused(SENTENCE, 'too old by their stamps')

    def play(rig):
        rig.stamp_ns = messages.SECOND_NS  # of a recording

    options = {'max_age_s': -1.0, 'prepare': play} | UNSURE
    with cliport_rig(ros_domain, checkpoint, **options) as rig:
        answer = rig.ask(SENTENCE)
        assert answer.success, answer.message
        assert messages.stamp_ns(answer.header.stamp) == messages.SECOND_NS


def test_questions_it_cannot_answer_are_refused_with_the_reason(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint) as rig:
        for instruction, said in (
            ('', 'say what to pick'),
            ('frobnicate xyzzy', 'I know none of the words'),
            (SENTENCE, 'I see no such thing to pick'),  # it was not trained
        ):
            answer = rig.ask(instruction)
            assert not answer.success
            assert said in answer.message
            assert answer.candidates == []
        assert answer.header.frame_id == 'table'
        assert answer.pick_entropy > 0
        values = rig.values()[1]
        assert values['refused instruction'] == '2'
        assert values['refused pick score'] == '1'
        assert 'I see no such thing' in values['last answer']


def test_no_depth_within_the_bounds_and_low_coverage_are_refused(ros_domain, checkpoint):
    bounds = {'z_min_m': 1.0, 'z_max_m': 1.5}
    with cliport_rig(ros_domain, checkpoint, **bounds) as rig:
        rig.node.patience_s = PATIENCE_S  # the complaint stays until it is read
        answer = rig.ask(SENTENCE)
        assert not answer.success
        assert 'no depth within the workspace' in answer.message
        assert 'view 0 saw x' in answer.message
        rig.complains('no depth within the workspace')
    with cliport_rig(ros_domain, checkpoint, x_min_m=-2.25, **UNSURE) as rig:
        answer = rig.ask(SENTENCE)
        assert not answer.success
        assert 'of the workspace, and 50% is needed' in answer.message


def test_a_camera_that_lacks_something_is_named(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, without_tf=('left',), **UNSURE) as rig:
        rig.node.patience_s = PATIENCE_S  # the complaint stays until it is read
        with rig.giving_up('tf_timeout_s'):
            rig.refused(SENTENCE, "no transform from 'left_lens' to 'table'")
        rig.complains("no transform from 'left_lens'")
        rig.node.patience_s = QUICK_S
        rig.send_tf('front', 'left', 'right')
        rig.silent.add('right/depth')

        def lacks_depth():
            rig.node._rig._views.forget()  # also what was on its way
            answer = rig.ask(SENTENCE)
            assert not answer.success
            return 'right sent no depth' in answer.message

        with rig.giving_up('image_timeout_s'):
            assert not rig.ask(SENTENCE).success
            rig.until(lacks_depth, 'the camera and what it lacks')
        rig.complains('/right/depth came, then stopped')
        rig.silent.clear()
        rig.until(lambda: rig.ask(SENTENCE).success, 'a plan')


def test_cameras_whose_images_do_not_fit_together_are_told(ros_domain, checkpoint):
    def keep_info(rig):
        rig.silent.add('front/camera_info')

    with cliport_rig(ros_domain, checkpoint, prepare=keep_info, **UNSURE) as rig:
        with rig.giving_up('tf_timeout_s'):
            answer = rig.ask(SENTENCE)
        assert (answer.success, answer.message) == (
            False,
            'no usable camera_info on /front/camera_info',
        )
        rig.silent.clear()
        rig.until(lambda: rig.ask(SENTENCE).success, 'a plan')
        publisher = rig.publishers['front/depth']
        rig.silent.add('front/depth')
        frame, shape = 'another_lens', (120, 160)

        def other_depth():
            header = messages.header_message(frame, rig.robot.get_clock().now().to_msg())
            depth = np.ones(shape, np.float32)
            publisher.publish(messages.image_message(depth, '32FC1', header))

        # Paired by stamps that are near each other.
        rig.node._rig._views._slop_ns = 10 * messages.SECOND_NS
        timer = rig.robot.create_timer(0.05, other_depth)
        # Of a frame that tf does not know it may be; of one that tf has elsewhere it is not.
        rig.until(lambda: rig.ask(SENTENCE).success, 'a plan')
        beside = np.eye(4)
        beside[0, 3] = 0.015
        rig.broadcaster.sendTransform(
            [transform_message('front_lens', 'another_lens', beside, stamp(0))]
        )
        refused = "of frame 'another_lens' and colour of 'front_lens', which tf has apart"
        rig.refused(SENTENCE, refused)
        frame, shape = 'front_lens', (60, 80)
        rig.node._rig._views.forget()
        rig.refused(SENTENCE, 'images of front: depth image is (60, 80)')
        timer.cancel()


def test_a_scale_of_depth_is_applied(ros_domain, checkpoint):
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        truth = rig.ask(SENTENCE)
    with cliport_rig(ros_domain, checkpoint, **UNSURE, **{'depth_scale.left': 0.5}) as rig:
        left = rig.views['left']
        left.depth_m[:] *= 2
        answer = rig.ask(SENTENCE)
        assert answer.success, answer.message
        same_pose(answer.pick.pose, matrix_from_pose(truth.pick.pose))


def test_the_block_is_picked_at_its_top(ros_domain, checkpoint):
    """Heights come through the graph: wherever the network points, z is what lies there."""
    with cliport_rig(ros_domain, checkpoint, **UNSURE) as rig:
        answer = rig.ask(SENTENCE, count=20)
        heightmap = fuse(list(rig.views.values()), WORKSPACE)
        assert len(answer.candidates) > 5
        for candidate in answer.candidates:
            place = candidate.pick.position
            ((row, col),) = WORKSPACE.pixels([[place.x, place.y]]).astype(int)
            assert place.z == pytest.approx(heightmap.height_m[row, col], abs=5e-3) or (
                abs(place.x - 0.4) < 0.05 and abs(place.y + 0.2) < 0.05 and place.z <= BLOCK.high[2]
            )
