import json

import numpy as np
import pytest

from vlm_nodes.simulation.simulator import JOINTS, Simulator, SimulatorSettings
from vlm_nodes.simulation.truth import surface_points
from vlm_nodes.simulation.vocabulary import LABEL_IDS, LABELS, TEST_SEEDS, held_out

SETTINGS = SimulatorSettings(
    seed=TEST_SEEDS[5], width=160, height=120, rate_hz=3.0, path_duration_s=20.0, samples=0
)


@pytest.fixture
def simulator():
    with Simulator(SETTINGS) as simulator:
        yield simulator


def test_stamps_are_whole_steps_without_drift(simulator):
    for _ in range(300):
        simulator.step()
    assert simulator.stamp_ns == 100_000_000_000


def test_two_runs_show_the_same(simulator):
    with Simulator(SETTINGS) as other:
        for _ in range(3):
            np.testing.assert_array_equal(simulator.view().rgb, other.view().rgb)
            simulator.step()
            other.step()
        assert simulator.move_objects() == other.move_objects()
        assert simulator.truth() == other.truth()


def test_every_object_is_seen_on_the_tour(simulator):
    pixels = dict.fromkeys((thing.label for thing in simulator.world.room.things), 0)
    for _ in range(60):
        ids, counts = np.unique(simulator.labels(), return_counts=True)
        for number, count in zip(ids, counts, strict=True):
            if LABELS[number - 1] in pixels:
                pixels[LABELS[number - 1]] = max(pixels[LABELS[number - 1]], count)
        simulator.step()
    assert min(pixels.values()) > 60, pixels


def test_joint_velocities_lead_to_the_next_positions(simulator):
    before, speed = simulator.joint_positions(), simulator.joint_velocities()
    assert before.shape == (len(JOINTS),)
    simulator.step()
    turn = simulator.joint_positions() - before - speed / SETTINGS.rate_hz
    np.testing.assert_allclose(np.exp(1j * turn), 1.0, atol=1e-9)


def test_truth_is_json_and_complete(simulator):
    truth = json.loads(json.dumps(simulator.truth()))
    assert truth['frame_id'] == 'map'
    assert truth['labels'][str(LABEL_IDS['floor'])] == 'floor'
    things = simulator.world.room.things
    assert [thing['name'] for thing in truth['objects']] == [thing.name for thing in things]
    for told, thing in zip(truth['objects'], things, strict=True):
        low, high = thing.box()
        np.testing.assert_allclose(told['centre'], (low + high) / 2)
        np.testing.assert_allclose(told['size'], high - low)
        assert told['unseen'] is held_out(thing.colour, thing.kind)
        assert told['label'] == thing.label
        assert np.linalg.norm(told['orientation']) == pytest.approx(1.0)
    assert len(truth['tables']) == len(simulator.world.room.tables)


def test_moved_objects_are_elsewhere_in_truth_and_back_after_reset(simulator):
    before = simulator.truth()
    old = {thing['name']: thing['position'] for thing in before['objects']}
    simulator.step()
    moved = simulator.move_objects(3)
    new = {thing['name']: thing['position'] for thing in simulator.truth()['objects']}
    assert 1 <= len(moved) <= 3
    for name in old:
        distance = np.hypot(*np.subtract(new[name], old[name])[:2])
        assert distance >= 0.8 if name in moved else distance == 0
    simulator.reset()
    assert simulator.stamp_ns == 0
    assert simulator.truth() == before


def test_the_camera_stays_at_the_end_without_loop_and_goes_round_with_it():
    def end(**changes):
        settings = SimulatorSettings(
            seed=TEST_SEEDS[0], width=16, height=16, rate_hz=1.0, path_duration_s=4.0, **changes
        )
        with Simulator(settings) as simulator:
            for _ in range(6):
                simulator.step()
            return simulator.pose()

    assert end(loop=False).x == pytest.approx(end(path='still').x)
    assert end(loop=True) != end(loop=False)


def test_a_still_view_is_rendered_again_only_when_something_moves():
    settings = SimulatorSettings(seed=TEST_SEEDS[0], width=64, height=48, path='still')
    with Simulator(settings) as simulator:
        first = simulator.view()
        simulator.step()
        assert simulator.view() is first
        while np.array_equal(simulator.view().depth_m, first.depth_m):
            assert simulator.move_objects(10)
        simulator.reset()
        np.testing.assert_array_equal(simulator.view().depth_m, first.depth_m)


def test_surface_points_lie_on_their_objects(simulator):
    poses = []
    for _ in range(6):
        poses.append(simulator.pose().map_from_camera())
        for _ in range(10):
            simulator.step()
    points, labels = surface_points(
        simulator.world, simulator._renderer, simulator.camera, poses, stride=2
    )
    assert len(points) == len(labels) > 1000
    for thing in simulator.world.room.things:
        low, high = thing.box()
        mine = points[labels == LABEL_IDS[thing.label]]
        assert np.all((mine > low - 2e-3) & (mine < high + 2e-3))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'path': 'zigzag'}, r"path .*'zigzag'"),
        ({'fovy_deg': 0.0}, r'fovy_deg .* 0\.0'),
        ({'rate_hz': float('nan')}, 'rate_hz .* nan'),
        ({'samples': -1}, 'samples .* -1'),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        SimulatorSettings(**changes)


def test_a_bad_seed_or_size_stops_before_gl_starts():
    with pytest.raises(ValueError, match='seed -5'):
        Simulator(SimulatorSettings(seed=-5))
    with pytest.raises(ValueError, match='camera size 0x480'):
        Simulator(SimulatorSettings(width=0))
