"""policy_node on a real graph: what it sends, and what it is told."""

import threading

import cv2
import numpy as np
import pytest
from policy_rig import HOME, NAMES, PATIENCE_S, PERIOD_NS, drifting, policy_rig, wilful
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vlm_nodes import messages


def test_it_starts_disabled_then_moves_slowly_and_within_the_limits(tmp_path):
    with policy_rig(drifting(), tmp_path, ramp_s=0.5, max_velocity=0.8) as rig:
        rig.tick(3)
        assert rig.state == 'disabled'
        assert rig.commands == []
        rig.enable()
        rig.tick(40)
        assert rig.state == 'running'
        assert len(rig.commands) == 40
        command = rig.commands[0]
        assert tuple(command.joint_names) == NAMES
        assert (command.header.stamp.sec, command.header.stamp.nanosec) == (0, 0)
        assert command.points[0].time_from_start.nanosec == 1.5 * PERIOD_NS
        moved = np.diff(np.vstack([HOME, rig.positions()]), axis=0)
        assert (np.abs(moved) <= 0.08 + 1e-9).all()
        assert (np.abs(moved[:5]) <= 0.08 * np.arange(1, 6)[:, None] / 5 + 1e-9).all()
        # As far as training went, and the margin.
        np.testing.assert_allclose(rig.positions()[-1], [1.1, 2.1, 0.105], atol=1e-6)
        assert rig.count('velocity clamps') > 0
        assert rig.count('position clamps') > 0
        answer = rig.call('enable', data=False)
        assert (answer.success, answer.message) == (True, 'disabled')
        rig.tick(2)
        assert len(rig.commands) == 40


def test_joints_are_by_name_in_any_order_and_in_several_messages(tmp_path):
    with policy_rig(drifting(), tmp_path, ramp_s=0.0, max_velocity=100.0) as rig:

        def states(names, positions):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            return messages.joint_state_message(names, positions, (), header)

        both = states(('slide', 'wheel', 'shoulder'), (0.05, 7.0, 0.0))
        rig.tick(joint_states=both)
        assert rig.refused() == ("/joint_states: no joint 'elbow' among shoulder, slide, wheel")
        assert rig.state == 'disabled'
        rig.tick(joint_states=states(('elbow',), (0.5,)))
        rig.enable()
        rig.tick(joint_states=states(('elbow',), (0.5,)))
        (command,) = rig.positions()
        np.testing.assert_allclose(command, HOME + np.array([0.2, 0.1, 0.05]) * (2, 2, 0.1))


def test_what_is_missing_is_named_by_the_service_and_by_diagnostics(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        assert rig.refused() == 'use_sim_time is set, but nobody publishes /clock'
        rig.set_clock()
        message = rig.refused()
        for topic in ('/rgb', '/depth', '/gelsight1', '/joint_states'):
            said = f'{topic}: nobody publishes it: check its name and remapping'
            assert said in message
            assert said in rig.status().message
        rig.tick(without=('depth',))
        assert rig.refused() == '/depth: nobody publishes it: check its name and remapping'
        rig.publisher(Image, 'depth')
        assert rig.refused() == '/depth: it has 1 publisher(s), but no message has come'
        rig.tick()
        rig.now_ns += 4 * PERIOD_NS
        rig.set_clock()
        assert '/rgb is 0.40 s old' in rig.refused()
        rig.tick()
        assert rig.status().message == 'OK'
        assert rig.enable() == 'enabled'
        assert rig.enable() == 'it is enabled already'


def test_a_pose_outside_the_limits_is_said_and_led_back_slowly(tmp_path):
    with policy_rig(drifting((0.0, 0.0, 0.0)), tmp_path, ramp_s=0.0) as rig:
        rig.joints = np.array([1.5, 0.5, 0.05])
        rig.tick()
        assert 'outside their limits, and led back slowly: shoulder' in rig.enable()
        rig.tick(6)
        np.testing.assert_allclose(rig.positions()[:, 0], [1.4, 1.3, 1.2, 1.1, 1.1, 1.1])


def test_shadow_shows_everything_and_commands_nothing(tmp_path):
    with policy_rig(drifting(), tmp_path, shadow=True) as rig:
        assert rig.robot.count_publishers('/joint_trajectory') == 0
        shown = rig.listen(JointTrajectory, '/policy_node/command')
        keypoints = rig.listen(Image, '/policy_node/keypoints')
        predicted = rig.listen(Image, '/policy_node/predicted_image')
        rig.hears('disabled; shoulder, elbow, slide on ~/command alone (shadow) at 10 Hz')
        rig.started(4)
        rig.until(lambda: len(shown) == len(keypoints) == len(predicted) == 4, 'all of it')
        assert rig.commands == []
        np.testing.assert_array_equal(rig.joints, HOME)
        # On the camera's image, enlarged; the prediction has the policy's size.
        assert (keypoints[-1].width, keypoints[-1].height) == (320, 240)
        assert (predicted[-1].width, predicted[-1].height) == (16, 16)
        for picture in (keypoints[-1], predicted[-1]):
            assert messages.stamp_ns(picture.header.stamp) == rig.now_ns
            assert picture.header.frame_id == 'camera'
        assert rig.values()['shadow'] == 'True'


def test_commands_as_a_float_array_have_the_order_of_the_parameter(tmp_path):
    order = ['slide', 'shoulder']
    parameters = {'command_type': 'float64_multi_array', 'command_joints': order}
    with policy_rig(drifting(), tmp_path, ramp_s=0.0, max_velocity=100.0, **parameters) as rig:
        commands = rig.listen(Float64MultiArray, '/commands')
        same = rig.listen(Float64MultiArray, '/policy_node/command')
        rig.started(1)
        rig.until(lambda: commands and same, 'a command')
        np.testing.assert_allclose(commands[0].data, [0.055, 0.4], atol=1e-6)
        assert commands[0] == same[0]


def test_commands_as_a_joint_state_have_names_and_a_stamp(tmp_path):
    parameters = {'command_type': 'joint_state', 'ramp_s': 0.0, 'max_velocity': 100.0}
    remaps = ['joint_command:=/isaac/joint_command']
    with policy_rig(drifting(), tmp_path, remaps=remaps, **parameters) as rig:
        commands = rig.listen(JointState, '/isaac/joint_command')
        rig.started(1)
        (command,) = rig.until(lambda: commands, 'a command')
        assert tuple(command.name) == NAMES
        np.testing.assert_allclose(command.position, [0.4, 0.7, 0.055], atol=1e-6)
        assert messages.stamp_ns(command.header.stamp) == rig.now_ns


def compressed(extension, pixels, stamp_ns, format_, head=b''):
    ok, data = cv2.imencode(extension, pixels)
    assert ok
    header = messages.header_message('camera', stamp_ns)
    return CompressedImage(header=header, format=format_, data=head + data.tobytes())


def test_compressed_inputs_of_remapped_topics_are_what_raw_ones_are(tmp_path):
    transports = {
        'rgb_transport': 'compressed',
        'depth_transport': 'compressedDepth',
        'tactile_transport': 'compressed',
    }
    free = {'ramp_s': 0.0, 'max_velocity': 100.0}
    with policy_rig(wilful(), tmp_path, **free) as rig:
        rig.started(1)
        raw = rig.positions()
    with policy_rig(wilful(), tmp_path, remaps=['rgb:=/eye'], **free, **transports) as rig:
        inputs = rig.inputs(rig.now_ns + PERIOD_NS)
        names = ('rgb', 'depth', 'gelsight1')

        def packed(stamp_ns):
            rgb, touch = (messages.rgb_from_image(inputs[name]) for name in ('rgb', 'gelsight1'))
            depth = np.rint(messages.depth_from_image(inputs['depth']) * 1000).astype(np.uint16)
            png = 'rgb8; png compressed bgr8'
            return {
                '/eye/compressed': compressed('.png', rgb[..., ::-1], stamp_ns, png),
                'gelsight1/compressed': compressed('.png', touch[..., ::-1], stamp_ns, png),
                'depth/compressedDepth': compressed(
                    '.png', depth, stamp_ns, '16UC1; compressedDepth png', bytes(12)
                ),
            }

        for _ in range(2):
            rig.tick(without=names, **packed(rig.now_ns + PERIOD_NS))
            if rig.state == 'disabled':
                rig.enable()
        np.testing.assert_allclose(rig.positions(), raw, atol=1e-6)


def test_images_of_other_encodings_are_what_rgb_and_metres_are(tmp_path):
    """As drivers send them: colours in another order, depth in millimetres, touch in grey."""
    free = {'ramp_s': 0.0, 'max_velocity': 100.0}
    with policy_rig(wilful(), tmp_path, **free) as rig:
        rig.started(1)
        usual = rig.positions()
    with policy_rig(wilful(), tmp_path, **free) as rig:
        for _ in range(2):
            inputs = rig.inputs(rig.now_ns + PERIOD_NS)
            rgb = messages.rgb_from_image(inputs['rgb'])
            metres = messages.depth_from_image(inputs['depth'])
            touch = messages.rgb_from_image(inputs['gelsight1'])
            other = {
                'rgb': (rgb[..., ::-1], 'bgr8'),
                'depth': (np.rint(metres * 1000).astype(np.uint16), '16UC1'),
                'gelsight1': (touch[..., 0], 'mono8'),
            }
            made = {
                topic: messages.image_message(pixels, encoding, inputs[topic].header)
                for topic, (pixels, encoding) in other.items()
            }
            rig.tick(**made)
            if rig.state == 'disabled':
                rig.enable()
        np.testing.assert_allclose(rig.positions(), usual, atol=1e-6)


def test_a_joint_of_somebody_elses_may_be_unknown(tmp_path):
    """Of another publisher, or not measured at all."""
    with policy_rig(drifting(), tmp_path, ramp_s=0.0) as rig:
        for _ in range(2):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            names, positions = ('gripper', *NAMES), (np.nan, *rig.joints)
            rig.tick(joint_states=messages.joint_state_message(names, positions, (), header))
            if rig.state == 'disabled':
                rig.enable()
        assert rig.state == 'running'
        assert np.isfinite(rig.positions()).all()


def test_diagnostics_tell_of_latency_and_ages(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started(2)
        late = rig.inputs(rig.now_ns - PERIOD_NS)['rgb']  # stamped two ticks before
        rig.tick(rgb=late)
        values = rig.values()
        # Two commands of inputs of the moment, and one of an image that is 200 ms old.
        assert float(values['ms stamp to command']) == pytest.approx(200 / 3, abs=0.01)
        assert float(values['ms tick to command']) == 0.0
        assert values['age s /rgb'] == '0.200'
        assert values['age s /joint_states'] == '0.000'
        assert values['state'] == 'ramping'
        assert values['commands sent'] == '3'
        assert values['deadline misses'] == '0'


def test_another_rate_than_in_training_is_warned_of(tmp_path):
    with policy_rig(drifting(rate_hz=5.0), tmp_path, rate_hz=10.0) as rig:
        rig.hears('rate_hz is 10, but the policy was trained at 5', '2.00 times as fast')


def test_the_rate_is_that_of_training(tmp_path):
    with policy_rig(drifting(rate_hz=5.0), tmp_path) as rig:
        rig.hears('at 5 Hz')
        assert rig.node._pilot._config.period_s == 0.2


def test_what_rosbag2npz_cut_off_is_cut_off_here(tmp_path):
    """An image in a wider one is the image itself, once the rest is cut off."""
    free = {'ramp_s': 0.0, 'max_velocity': 100.0}
    with policy_rig(wilful(), tmp_path, **free) as rig:
        rig.started(1)
        whole = rig.positions()
    with policy_rig(wilful(), tmp_path, **free, **{'crop.color': [8, 0, 32, 24]}) as rig:
        rgb = messages.rgb_from_image(rig.inputs(0)['rgb'])
        wider = np.pad(rgb, ((0, 6), (8, 2), (0, 0)), constant_values=255)
        for _ in range(2):
            header = messages.header_message('camera', rig.now_ns + PERIOD_NS)
            rig.tick(rgb=messages.image_message(wider, 'rgb8', header))
            if rig.state == 'disabled':
                rig.enable()
        np.testing.assert_allclose(rig.positions(), whole, atol=1e-6)


def test_two_cameras_and_two_touch_sensors_of_changing_size_in_another_order_of_joints(tmp_path):
    streams = {'cameras': ('color', 'wrist'), 'tactile': ('gelsight1', 'gelsight2')}
    with policy_rig(wilful(depth=None, **streams), tmp_path, ramp_s=0.0) as rig:
        rig.follow = False

        def more(times):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            joints = messages.joint_state_message(NAMES[::-1], HOME[::-1], (), header)
            tall = np.full((8 * times, 8 * times, 3), 90, np.uint8)
            image = messages.image_message(tall, 'rgb8', header)
            return {'wrist': image, 'gelsight2': image, 'joint_states': joints}

        rig.tick(**more(4))
        rig.enable()
        for times in (4, 4, 2, 6):
            rig.tick(**more(times))
        assert rig.state == 'running'
        assert rig.count('ticks failed') == 0
        assert len(rig.commands) == 4
        rig.tick(5, without=('wrist', 'gelsight2'))
        assert rig.state == 'holding'
        assert '/wrist is ' in rig.reason
        assert '/gelsight2 is ' in rig.reason


def test_it_drives_in_real_time(tmp_path):
    """Without simulated time, with a robot that publishes when it likes."""
    # A busy computer delivers inputs late; what becomes of late ones is tested in simulated time.
    patient = {'hold_after_s': PATIENCE_S, 'stop_after_s': PATIENCE_S}
    with policy_rig(drifting(), tmp_path, use_sim_time=False, ramp_s=0.1, **patient) as rig:
        stop = threading.Event()

        def publish():
            while not stop.wait(0.02):
                now_ns = rig.robot.get_clock().now().nanoseconds
                for topic, message in rig.inputs(now_ns).items():
                    rig.publisher(type(message), topic).publish(message)

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        try:
            rig.until(lambda: rig.node._pilot.obstacle() == '', 'all inputs')
            rig.enable()
            rig.until(lambda: rig.count('commands sent') >= 8, 'commands')
            latency_ms = float(rig.values()['ms stamp to command'])
        finally:
            stop.set()
            thread.join()
        assert 0 < latency_ms < 1000 * PATIENCE_S  # older inputs would have been held


def test_images_that_come_after_the_time_are_waited_for(tmp_path):
    """As simulators send them: else each command would be of the tick before."""
    options = {'wait_periods': 1.0, 'rate_hz': 1.0, 'hold_after_s': 1.5}
    with policy_rig(drifting(), tmp_path, **options) as rig:
        rig.now_ns += 10 * PERIOD_NS
        rig.node._pilot._wait_periods = PATIENCE_S  # however late a busy machine delivers them
        rig.send()
        rig.ticks()
        rig.enable()
        for _ in range(3):
            rig.now_ns += 10 * PERIOD_NS
            sent = rig.count('commands sent')
            rig.set_clock()
            rig.send()
            rig.until(lambda n=sent: rig.count('commands sent') > n, 'the command')
        assert float(rig.values()['ms stamp to command']) == 0.0
