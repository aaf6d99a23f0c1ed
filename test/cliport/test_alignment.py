from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tabletop_scenes import FRONT, LEFT, MIDDLE, Box, cast, published_camera

from vlm_nodes.cliport.alignment import AlignmentError, Correction, agreements, align
from vlm_nodes.cliport.heightmap import View
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry.rigid import look_at

WORKSPACE = Workspace()
BOXES = (
    Box((0.35, 0.05, 0.0), (0.5, 0.25, 0.12)),
    Box((0.55, -0.3, 0.0), (0.7, -0.1, 0.18)),
    Box((0.3, -0.35, 0.0), (0.38, -0.15, 0.07)),
    Box((0.55, 0.2, 0.0), (0.62, 0.4, 0.22)),
)


def two_views(boxes: tuple[Box, ...] = BOXES) -> tuple[View, View]:
    """From two places from which the same sides of boxes are seen."""
    camera = published_camera(320, 240)
    eyes = ((1.0, 0.3, 0.75), (0.7, 0.6, 0.8))
    return tuple(cast(camera, look_at(eye, MIDDLE), boxes) for eye in eyes)


def spoiled(view: View, turn_deg: float, shift_m: tuple[float, ...], scale: float) -> View:
    """The view as a camera would claim it whose calibration is off."""
    wrong = np.eye(4)
    wrong[:3, :3] = Rotation.from_euler('zyx', (turn_deg, -turn_deg, 0), degrees=True).as_matrix()
    wrong[:3, 3] = shift_m
    return Correction(scale, wrong, 0.0).apply(view)


def test_views_of_one_scene_agree() -> None:
    (agreement,) = agreements(two_views(), WORKSPACE)
    assert (agreement.first, agreement.second) == (0, 1)
    assert agreement.share > 0.15
    assert agreement.median_m < 1e-4


def test_three_views_make_three_pairs_and_a_blind_one_says_so() -> None:
    front, left = two_views()
    blind = dataclasses.replace(left, depth_m=np.full_like(left.depth_m, np.nan))
    pairs = agreements([front, left, blind], WORKSPACE)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert pairs[1].share == 0
    assert np.isnan(pairs[1].median_m)


def test_a_shifted_view_disagrees_by_its_shift() -> None:
    front, left = two_views(())
    raised = spoiled(front, 0.0, (0.0, 0.0, 0.03), 1.0)
    (agreement,) = agreements([raised, left], WORKSPACE)
    assert agreement.median_m == pytest.approx(0.03, abs=1e-4)
    assert agreement.p90_m == pytest.approx(0.03, abs=1e-3)


@pytest.mark.parametrize('scale', [1.0, 0.92, 1.07])
def test_what_is_off_is_found(scale: float) -> None:
    front, left = two_views()
    wrong = spoiled(front, 2.0, (0.01, -0.015, 0.02), scale)
    assert agreements([wrong, left], WORKSPACE)[0].median_m > 0.008
    correction = align(wrong, left, WORKSPACE, scale_depth=True)
    assert correction.depth_scale * scale == pytest.approx(1.0, abs=0.01)
    assert correction.residual_m < 0.002
    mended = correction.apply(wrong)
    assert agreements([mended, left], WORKSPACE)[0].median_m < 0.002
    np.testing.assert_allclose(mended.table_from_camera, front.table_from_camera, atol=0.012)


def test_without_scale_the_depths_stay() -> None:
    front, left = two_views()
    wrong = spoiled(front, 2.0, (0.01, -0.015, 0.02), 1.0)
    correction = align(wrong, left, WORKSPACE)
    assert correction.depth_scale == 1.0
    assert agreements([correction.apply(wrong), left], WORKSPACE)[0].median_m < 0.002


def test_a_bare_table_gives_height_and_moves_nothing_along_it() -> None:
    front, left = two_views(())
    wrong = spoiled(front, 0.0, (0.0, 0.0, 0.03), 1.0)
    correction = align(wrong, left, WORKSPACE)
    np.testing.assert_allclose(correction.table_from_claimed[:3, 3], (0, 0, -0.03), atol=1e-3)
    np.testing.assert_allclose(correction.table_from_claimed[:3, :3], np.eye(3), atol=1e-3)


def test_sides_that_only_one_camera_sees_draw_nothing_to_them() -> None:
    camera = published_camera(320, 240)
    front, left = (cast(camera, look_at(eye, MIDDLE), BOXES) for eye in (FRONT, LEFT))
    correction = align(front, left, WORKSPACE)
    np.testing.assert_allclose(correction.table_from_claimed, np.eye(4), atol=0.01)


def test_views_that_share_nothing_are_refused() -> None:
    front, left = two_views(())
    far = spoiled(front, 0.0, (0.0, 0.0, 0.35), 1.0)
    with pytest.raises(AlignmentError, match='share 0 points'):
        align(far, left, WORKSPACE)
    blind = dataclasses.replace(left, depth_m=np.zeros_like(left.depth_m))
    with pytest.raises(AlignmentError, match='has 0 readings'):
        align(front, blind, WORKSPACE)
