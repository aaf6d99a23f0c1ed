import dataclasses

import numpy as np
import pytest

from vlm_nodes.simulation.arm.expert import ArmExpert, Shake, sight_from_truth
from vlm_nodes.simulation.arm.kinematics import JOINTS, joints_for_tip, tip_position
from vlm_nodes.simulation.arm.placement import STOP_RANGE_M, make_scene
from vlm_nodes.simulation.arm.simulator import BASE_FROM_CAMERA, ArmSettings, ArmSimulator
from vlm_nodes.simulation.arm.tasks import PUSH, REACH_BLUE, REACH_RED, TASKS, held_out_seed

TICKS = 140


@pytest.fixture(scope='module')
def simulator():
    with ArmSimulator() as made:
        yield made


def run(simulator, expert, ticks=TICKS, watch=None):
    """Ticks of an expert; returns the outcome at the end."""
    for _ in range(ticks):
        if watch is not None:
            watch.append(simulator.observe())
        simulator.step(expert.act(sight_from_truth(simulator.truth())))
    return simulator.outcome()


def same(a, b):
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name))
        for field in dataclasses.fields(a)
    )


@pytest.mark.parametrize('shake', [None, Shake()])
@pytest.mark.parametrize('task', TASKS)
def test_the_expert_does_each_task(simulator, task, shake):
    for number in range(5):
        seed = held_out_seed(number)
        simulator.reset(seed, task)
        outcome = run(simulator, ArmExpert(task, shake=shake, seed=seed))
        assert outcome.success, (seed, outcome.reason)


def test_disturbances_are_not_what_the_expert_intends(simulator):
    simulator.reset(2, PUSH)
    expert = ArmExpert(PUSH, shake=Shake(stall_probability=0.2), seed=2)
    commands, intended = [], []
    for _ in range(60):
        commands.append(expert.act(sight_from_truth(simulator.truth())))
        intended.append(expert.intended)
        simulator.step(commands[-1])
    commands, intended = np.array(commands), np.array(intended)
    stalled = (np.diff(commands, axis=0) == 0).all(axis=1)
    assert 5 < stalled.sum() < 55
    # It means to go on all the while.
    assert (np.abs(intended[1:] - commands[1:])[stalled].max(axis=1) > 1e-4).all()


def test_on_a_detour_the_finger_rises_while_the_expert_means_to_go_on(simulator):
    quiet = dict.fromkeys(('noise_rad', 'kick_rad', 'stall_probability'), 0.0)
    simulator.reset(2, PUSH)
    expert = ArmExpert(PUSH, shake=Shake(**quiet, detour_probability=0.1), seed=2)
    rises = []
    for _ in range(TICKS):
        tip = tip_position(simulator.world.joint_positions())
        command = expert.act(sight_from_truth(simulator.truth()))
        if np.abs(command - expert.intended).max() > 1e-6:
            led, meant = tip_position(command) - tip, tip_position(expert.intended) - tip
            rises.append(led[2])
            assert led[1] > meant[1] - 1e-3  # away from the box, which it means to push
        simulator.step(command)
    assert 10 < len(rises) < TICKS / 2
    assert min(rises) > -2e-3
    assert simulator.outcome().success


def test_an_undisturbed_expert_commands_what_it_intends(simulator):
    simulator.reset(2, REACH_RED)
    expert = ArmExpert(REACH_RED)
    for _ in range(10):
        command = expert.act(sight_from_truth(simulator.truth()))
        np.testing.assert_array_equal(command, expert.intended)
        simulator.step(command)


def test_what_happens_follows_from_the_seed():
    seen = []
    for _ in range(2):
        with ArmSimulator() as simulator:
            simulator.reset(4, REACH_RED)
            run(simulator, ArmExpert(REACH_RED), 3)
            simulator.reset(6, PUSH)
            seen.append([])
            run(simulator, ArmExpert(PUSH, shake=Shake(), seed=6), 40, seen[-1])
    assert all(same(a, b) for a, b in zip(*seen, strict=True))
    assert not same(seen[0][0], seen[0][20])


def test_the_scene_does_not_tell_the_task(simulator):
    first = []
    for task in TASKS:
        simulator.reset(2, task)
        first.append(simulator.observe())
    assert same(first[0], first[1])
    assert same(first[0], first[2])


def test_the_stop_shows_in_nothing_before_it_is_felt(simulator):
    seen, stops = [], (STOP_RANGE_M[0] + 0.02, STOP_RANGE_M[1])
    for stop_m in stops:
        simulator.place(dataclasses.replace(make_scene(8), stop_m=stop_m), PUSH)
        seen.append([])
        run(simulator, ArmExpert(PUSH), 60, seen[-1])
    same_for = next(i for i, (a, b) in enumerate(zip(*seen, strict=True)) if not same(a, b))
    near, far = (views[same_for] for views in seen)
    # The box was pushed for a while by then; what tells the two apart is felt at once.
    pushed = [not np.array_equal(view.tactile, seen[0][0].tactile) for view in seen[0][:same_for]]
    assert sum(pushed) > 5
    assert np.abs(near.tactile.astype(int) - far.tactile).max() > 20


def test_free_pushing_and_the_stop_feel_different(simulator):
    simulator.place(dataclasses.replace(make_scene(2), stop_m=0.1), PUSH)
    free = simulator.observe().tactile.astype(int)
    seen, forces, expert = [], [], ArmExpert(PUSH)
    for _ in range(60):
        seen.append(np.abs(simulator.observe().tactile - free).max())
        forces.append(simulator.world.moment().force_n)
        simulator.step(expert.act(sight_from_truth(simulator.truth())))
    seen, forces = np.array(seen), np.array(forces)
    pushing = (forces > 0.5) & (forces < 1.5)
    assert pushing.sum() > 10
    assert 10 < seen[pushing].max() < seen[forces > 2.0].min() / 1.5
    assert (seen[forces == 0] == 0).all()


def test_the_wrong_ball_fails(simulator):
    simulator.reset(2, REACH_BLUE)
    outcome = run(simulator, ArmExpert(REACH_RED))
    assert outcome.failed
    assert outcome.reason == 'went to the red ball'


def push_blindly(simulator, seed, distance_m):
    """Pushes a given way as the expert does, whatever is felt, and goes away."""
    simulator.reset(seed, PUSH)
    x, y, _ = simulator.world.scene.box
    behind = y + 0.025 + 0.014
    for place in ((x, behind + 0.03, 0.1), (x, behind + 0.03, 0.011)):
        for _ in range(15):
            simulator.step(joints_for_tip(place))
    for way in np.arange(-0.03, distance_m, 0.005):
        simulator.step(joints_for_tip((x, behind - way, 0.011)))
    for _ in range(15):
        simulator.step(joints_for_tip((x, behind + 0.05, 0.05)))
    return simulator.outcome()


def test_pressing_on_at_the_stop_fails(simulator):
    stop_m = make_scene(2).stop_m
    outcome = push_blindly(simulator, 2, stop_m + 0.06)
    assert outcome.failed
    assert outcome.reason.startswith('pressed with more than')
    assert outcome.peak_force_n > 7


def test_stopping_early_fails(simulator):
    outcome = push_blindly(simulator, 2, make_scene(2).stop_m - 0.015)
    assert not outcome.success
    assert 'short of its stop' in outcome.reason


def test_who_does_not_feel_seldom_succeeds(simulator):
    middle = sum(STOP_RANGE_M) / 2
    done = [push_blindly(simulator, held_out_seed(i), middle + 0.005).success for i in range(16)]
    assert sum(done) <= 8


def test_joints_follow_their_targets_and_the_last_ones_hold(simulator):
    simulator.reset(0, REACH_RED)
    targets = joints_for_tip((0.4, 0.1, 0.2))
    simulator.step(targets)
    for _ in range(15):
        simulator.step()
    np.testing.assert_allclose(simulator.observe().joint_positions, targets, atol=1e-3)
    assert simulator.stamp_ns == 1_600_000_000


def test_targets_beyond_the_limits_are_kept_within(simulator):
    simulator.reset(0, REACH_RED)
    for _ in range(20):
        simulator.step([9.0, 0.9, -1.5, 0.6])
    assert simulator.observe().joint_positions[0] == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize('targets', [[0.0, 1.0, np.nan, 0.0], [0.0, 1.0], 3.0])
def test_targets_that_are_none_change_nothing(simulator, targets):
    simulator.reset(0, REACH_RED)
    before = simulator.observe()
    with pytest.raises(ValueError, match='joint targets must be 4 finite numbers'):
        simulator.step(targets)
    assert same(before, simulator.observe())


def test_depth_sees_the_table_where_it_is(simulator):
    simulator.reset(0, REACH_RED)
    seen = simulator.observe()
    rays = np.dstack([simulator.camera.rays(), np.ones(seen.depth_m.shape)])
    points = (rays * seen.depth_m[..., None]) @ BASE_FROM_CAMERA[:3, :3].T + BASE_FROM_CAMERA[:3, 3]
    on_table = points[100:, :, 2]
    assert abs(np.median(on_table)) < 0.002


def test_all_is_in_the_picture(simulator):
    for number in range(20):
        scene = make_scene(held_out_seed(number))
        camera_from_base = np.linalg.inv(BASE_FROM_CAMERA)
        ways = [(scene.box[0], scene.box[1] - STOP_RANGE_M[1], 0.025)]
        for point in (*scene.balls.values(), scene.box, scene.start_tip, *ways):
            x, y, z = (camera_from_base @ [*point, 1.0])[:3]
            camera = simulator.camera
            u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
            assert 2 < u < camera.width - 3
            assert 2 < v < camera.height - 3


def test_truth_is_plain_and_complete(simulator):
    simulator.reset(12, PUSH)
    truth = simulator.truth()
    assert (truth['seed'], truth['task'], truth['tick']) == (12, PUSH, 0)
    assert list(truth['joints']) == list(JOINTS)
    assert truth['stop_m'] == make_scene(12).stop_m
    np.testing.assert_allclose(truth['fingertip'], make_scene(12).start_tip, atol=1e-9)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rate_hz': 0.0}, 'rate_hz must be between 1 and 50'),
        ({'fovy_deg': 0.0}, 'fovy_deg must be between'),
        ({'look_seed': -1}, 'look_seed must not be negative'),
        ({'samples': -1}, 'samples must not be negative'),
        ({'width': 0}, 'camera size 0x128 is not positive'),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ArmSimulator(ArmSettings(**change))
