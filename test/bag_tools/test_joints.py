from types import SimpleNamespace

import numpy as np
import pytest

from bag_tools.joints import NumberSeries, NumbersError, field_values, joint_values


def state(
    names: str, position: list[float], velocity: list[float] | None = None
) -> SimpleNamespace:
    return SimpleNamespace(
        name=names.split(), position=position, velocity=velocity or [], effort=[]
    )


def series(*messages: tuple[str, list[float]]) -> NumberSeries:
    made = NumberSeries()
    for ordinal, (names, values) in enumerate(messages):
        made.add(ordinal, *joint_values(state(names, values), ('position',)))
    return made


def test_names_decide_not_order() -> None:
    made = series(('a b', [1, 10]), ('b a', [20, 2]), ('a b', [3, 30]))
    assert made.names == ('a', 'b')
    stamps = np.array([0, 100, 200])
    got = made.sample(('b', 'a'), stamps, np.array([0, 50, 200]), 'linear', 100)
    np.testing.assert_allclose(got.values, [[10, 1], [15, 1.5], [30, 3]])
    assert got.valid.all()


def test_partial_messages_are_merged_each_by_its_own_stamps() -> None:
    made = series(('arm', [0.0]), ('grip', [5.0]), ('arm', [2.0]), ('grip', [7.0]))
    got = made.sample(('arm', 'grip'), np.array([0, 10, 20, 30]), np.array([15, 18]), 'linear', 18)
    np.testing.assert_allclose(got.values, [[1.5, 5.5], [1.8, 5.8]])
    assert got.valid.all()
    late = made.sample(('arm', 'grip'), np.array([0, 10, 20, 30]), np.array([25]), 'linear', 18)
    assert not late.valid.any()
    np.testing.assert_allclose(late.values, [[2.0, 6.5]])


def test_the_usual_order_of_the_fullest_messages_wins() -> None:
    made = series(('b a', [0, 0]), ('a b', [0, 0]), ('a b', [0, 0]), ('z', [0]))
    assert made.names == ('a', 'b', 'z')


def test_unused_messages_and_broken_numbers_are_passed_over() -> None:
    made = series(('a', [0.0]), ('a', [np.nan]), ('a', [99.0]), ('a', [3.0]))
    got = made.sample(('a',), np.array([0, 10, -1, 30]), np.array([15]), 'linear', 20)
    np.testing.assert_allclose(got.values, [[1.5]])
    assert made.not_finite == 1


@pytest.mark.parametrize(('policy', 'value'), [('nearest', 2.0), ('latest', 1.0)])
def test_numbers_can_be_picked(policy: str, value: float) -> None:
    made = series(('a', [1.0]), ('a', [2.0]))
    assert made.sample(('a',), np.array([0, 10]), np.array([8]), policy, 20).values == value


def test_velocities_have_columns_of_their_own() -> None:
    names, values = joint_values(state('a b', [1, 2], [3, 4]), ('position', 'velocity'))
    assert names == ('a', 'b', 'a/velocity', 'b/velocity')
    assert values == [1, 2, 3, 4]
    with pytest.raises(NumbersError, match='2 joints are named, 1 have a position'):
        joint_values(state('a b', [1]), ('position',))


def test_trajectories_give_their_first_point() -> None:
    point = SimpleNamespace(positions=[1.0, 2.0], velocities=[], effort=[])
    message = SimpleNamespace(joint_names=['a', 'b'], points=[point])
    assert joint_values(message, ('position',)) == (('a', 'b'), [1.0, 2.0])
    assert joint_values(SimpleNamespace(joint_names=['a'], points=[]), ('position',)) == ((), [])


def test_fields_of_any_message() -> None:
    twist = SimpleNamespace(linear=SimpleNamespace(x=0.5), data=np.array([1.0, 2.0]))
    assert field_values(twist, ('linear.x', 'data')) == (
        ('linear.x', 'data[0]', 'data[1]'),
        [0.5, 1.0, 2.0],
    )
    with pytest.raises(NumbersError, match=r'linear\.z'):
        field_values(twist, ('linear.z',))
