import math

import cv2
import numpy as np
import pytest
from small_cliport import sample

from vlm_nodes.cliport.augment import Augmentation, augment
from vlm_nodes.cliport.samples import Sample, Scene


def marked(shape=(120, 90)) -> Sample:
    """A red spot at the pick, a blue one at the place; the height and what was seen say it too."""
    color = np.full((*shape, 3), 90, np.uint8)
    height = np.zeros(shape, np.float32)
    pick, place = (40, 30), (75, 60)
    cv2.circle(color, pick[::-1], 3, (255, 0, 0), -1)
    cv2.circle(color, place[::-1], 3, (0, 0, 255), -1)
    cv2.circle(height, pick[::-1], 3, 0.1, -1)
    return Sample(
        color, height, np.ones(shape, bool), 'x', pick, place, place_angle_rad=0.3, task='t'
    )


def test_labels_stay_on_their_things() -> None:
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(40):
        moved = augment(marked(), Augmentation(), rng)
        for label, channel in ((moved.pick, 0), (moved.place, 2)):
            row, column = (round(value) for value in label)
            assert moved.color[row, column].argmax() == channel
            assert moved.color[row, column, channel] > 200
        row, column = (round(value) for value in moved.pick)
        assert moved.height_m[row, column] == pytest.approx(0.1)
        assert moved.place_angle_rad == 0.3
        assert moved.task == 't'
        angles.append(moved.pick_angle_rad)
    assert 0.5 < np.std(angles) < 1.6


def test_the_pick_turns_as_the_picture_does() -> None:
    """From the pick to the place is a direction; its angle, from columns to rows, grows so much."""
    rng = np.random.default_rng(1)

    def direction(label: Sample) -> float:
        return math.atan2(label.place[0] - label.pick[0], label.place[1] - label.pick[1])

    for _ in range(10):
        moved = augment(marked(), Augmentation(), rng)
        turned = direction(moved) - direction(marked()) - moved.pick_angle_rad
        assert math.remainder(turned, 2 * math.pi) == pytest.approx(0, abs=1e-6)


def test_what_comes_in_from_outside_is_a_hole() -> None:
    moved = augment(marked(), Augmentation(), np.random.default_rng(2))
    assert not moved.seen.all()
    assert moved.height_m[~moved.seen].max() == 0


def test_no_turn_where_the_task_says_left_and_right() -> None:
    rng = np.random.default_rng(3)
    shifted = [augment(marked(), Augmentation(turn_rad=0), rng) for _ in range(5)]
    for moved in shifted:
        assert moved.pick_angle_rad == 0
        np.testing.assert_allclose(np.subtract(moved.place, moved.pick), (35, 30), atol=1e-9)
    assert augment(marked(), Augmentation(0, 0), rng).pick == (40, 30)


def test_labels_that_always_leave_keep_the_picture() -> None:
    still = sample(pick=(0.0, 0.0), place=(63.0, 95.0))
    moved = augment(still, Augmentation(turn_rad=0, shift_px=1000), np.random.default_rng(0))
    assert moved is still


def test_light_changes_colours_only() -> None:
    before = sample()
    after = augment(before, Augmentation(0, 0, light=0.2, tint=0.05), np.random.default_rng(0))
    assert not np.array_equal(after.color, before.color)
    ratio = after.color[before.color > 40] / before.color[before.color > 40]
    assert 0.7 < ratio.min() <= ratio.max() < 1.3
    assert after.pick == before.pick
    assert np.array_equal(after.height_m, before.height_m)
    assert before.color.dtype == after.color.dtype == np.uint8


@pytest.mark.parametrize(
    'changes', [{'turn_rad': -1}, {'shift_px': float('nan')}, {'light': 0.6, 'tint': 0.5}]
)
def test_a_bad_setting_is_named(changes) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Augmentation(**changes)


def test_labels_outside_are_refused() -> None:
    with pytest.raises(ValueError, match='place'):
        sample(place=(64.0, 3.0))
    with pytest.raises(ValueError, match='differ'):
        Sample(*[part[:-1] for part in (sample().color,)], sample().height_m, sample().seen, 'x',
               (1, 1), (2, 2))  # fmt: skip


def test_pictures_become_tensors() -> None:
    one, other = sample(seed=0), sample(seed=1)
    scene = Scene.of([(s.color, s.height_m, s.seen) for s in (one, other)])
    assert scene.shape == (64, 96)
    assert scene.color.shape == (2, 3, 64, 96)
    np.testing.assert_allclose(scene.color[1, :, 5, 7].numpy() * 255, other.color[5, 7], rtol=1e-6)
