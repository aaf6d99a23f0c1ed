import numpy as np
import pytest

from vlm_nodes.simulation.street.layout import make_street
from vlm_nodes.simulation.street.solids import Solid, first_hits
from vlm_nodes.simulation.street.things import Thing
from vlm_nodes.simulation.street.vocabulary import (
    CLASS_NAMES,
    TRAIN_SEEDS,
    VAL_SEEDS,
    class_number,
    scene_seeds,
)
from vlm_nodes.simulation.vocabulary import COLOURS
from vlm_nodes.surround.occupancy import CLASSES

GREY = (0.5, 0.5, 0.5)


def box(centre, half, yaw=0.0, kind='car'):
    return Solid('box', kind, centre, half, yaw, GREY)


def cylinder(centre, radius, half_z):
    return Solid('cylinder', 'tree', centre, (radius, radius, half_z), 0.0, GREY)


def unit(*vectors):
    rays = np.array(vectors, float)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def test_rays_enter_a_box_where_they_must():
    solid = box((10, 0, 1), (2, 1, 1))
    rays = unit((1, 0, 0), (-1, 0, 0), (1, 0.2, 0), (0, 0, 1), (10, 0, -1.1))
    found = solid.enters(np.array((0, 0, 1.0)), rays)
    # Straight ahead 8 m; 0.2 to the side at each metre leaves the side face out: 1.6 > 1.
    assert found[0] == pytest.approx(8.0)
    assert np.isinf(found[[1, 2, 3]]).all()
    # Falling by 0.11 a metre it is 0.88 m lower at the front face, still on it.
    assert found[4] == pytest.approx(8 * np.hypot(1, 0.11))


def test_rays_enter_a_turned_box_at_its_corner():
    solid = box((10, 0, 0), (1, 1, 1), yaw=np.pi / 4)
    assert solid.enters(np.zeros(3), unit((1, 0, 0)))[0] == pytest.approx(10 - np.sqrt(2))


def test_rays_enter_a_cylinder_at_its_mantle_and_its_lid():
    solid = cylinder((5, 0, 0), 2, 1)
    found = solid.enters(np.zeros(3), unit((1, 0, 0), (0, 1, 0), (1, 0.5, 0)))
    assert found[0] == pytest.approx(3.0)
    assert np.isinf(found[1:]).all()
    above = solid.enters(np.array((5.5, 0.5, 4.0)), unit((0, 0, -1), (0, 0, 1)))
    assert above[0] == pytest.approx(3.0)
    assert np.isinf(above[1])


def test_the_nearest_solid_is_hit_also_from_within_its_sphere():
    wall = box((4, 0, 0), (0.1, 50, 3))
    solids = [box((8, 0, 0), (1, 1, 1)), wall, cylinder((2, 0, 0), 0.5, 1)]
    distance, hit = first_hits(solids, (0, 0, 0), unit((1, 0, 0), (1, 1, 0), (-1, 0, 0)))
    assert hit.tolist() == [2, 1, -1]
    assert distance[:2] == pytest.approx([1.5, 3.9 * np.sqrt(2)])
    assert np.isinf(distance[2])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'half': (1, 0, 1)}, 'not positive'),
        ({'kind': 'zebra'}, 'unknown kind'),
        ({'shape': 'cylinder', 'half': (1, 2, 1)}, 'two radii'),
    ],
)
def test_solids_that_make_no_sense(change, message):
    values = {'shape': 'box', 'kind': 'car', 'centre': (0, 0, 0), 'half': (1, 1, 1)}
    with pytest.raises(ValueError, match=message):
        Solid(**(values | change), yaw_rad=0.0, rgb=GREY)


@pytest.mark.parametrize('seed', [0, 1, 5, 1_000_003])
def test_streets_are_free_for_the_vehicle_and_things_stand_apart(seed):
    street = make_street(seed, 40.0)
    standing = [s for s in street.solids if s.kind not in ('road', 'kerb', 'pavement', 'grass')]
    x, y = np.meshgrid(np.linspace(-3, 44, 400), street.lane_y + np.linspace(-1.2, 1.2, 12))
    assert not any(solid.covers(x, y).any() for solid in standing if solid.centre[2] < 2.0)
    vehicles = {t.number for t in street.things if t.kind != 'person'}
    bodies = [s for s in standing if s.thing in vehicles]
    for solid in bodies:
        rim = np.linspace(-1, 1, 9)
        u, v = (solid.half[0] * rim[:, None], solid.half[1] * rim[None, :])
        cos, sin = np.cos(solid.yaw_rad), np.sin(solid.yaw_rad)
        px, py = solid.centre[0] + cos * u - sin * v, solid.centre[1] + sin * u + cos * v
        others = (s for s in bodies if s.thing != solid.thing)
        assert not any(other.covers(px, py).any() for other in others)


def test_streets_follow_from_their_seed_and_differ():
    assert make_street(3) == make_street(3)
    assert make_street(3) != make_street(4)
    streets = [make_street(seed) for seed in range(6)]
    classes = {class_number(s.kind) for street in streets for s in street.solids}
    assert {CLASSES[number] for number in classes} == set(CLASS_NAMES)
    things = [thing for street in streets for thing in street.things]
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.kind for thing in things} == {'car', 'truck', 'person'}


def test_everything_stands_on_ground():
    street = make_street(2)
    ground = [s for s in street.solids if s.kind in ('road', 'kerb', 'pavement', 'grass')]
    x, y = np.meshgrid(np.linspace(-60, 100, 333), np.linspace(-60, 60, 241))
    covered = sum(solid.covers(x, y).astype(int) for solid in ground)
    assert (covered > 0).all()


def test_splits_never_share_a_street():
    assert not set(scene_seeds('train', 0, 5)) & set(scene_seeds('val', 0, 5))
    assert scene_seeds('val', 2, 3) == range(VAL_SEEDS.start + 2, VAL_SEEDS.start + 5)
    last = len(TRAIN_SEEDS) - 1
    assert scene_seeds('train', last, 1)[0] == last
    with pytest.raises(ValueError, match='not in split'):
        scene_seeds('train', last, 2)
    with pytest.raises(ValueError, match='unknown split'):
        scene_seeds('test', 0, 1)
    with pytest.raises(ValueError, match='neither'):
        make_street(VAL_SEEDS.stop)


@pytest.mark.parametrize(
    ('kind', 'colour', 'text'),
    [('car', 'red', 'a red car'), ('truck', 'orange', 'an orange truck'),
     ('person', 'blue', 'a person in blue')],
)  # fmt: skip
def test_things_have_words(kind, colour, text):
    assert Thing(1, kind, colour).text == text
