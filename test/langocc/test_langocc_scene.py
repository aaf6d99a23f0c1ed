"""What is made of a prediction, on predictions that are written by hand."""

import numpy as np
import pytest
import torch
from small_langocc import GRID

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL
from vlm_nodes.langocc.coverage import Coverage
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.model import Volume
from vlm_nodes.langocc.pictures import COLOURS
from vlm_nodes.langocc.predictor import Prediction
from vlm_nodes.langocc.scene import (
    UNKNOWN,
    PlanConfig,
    find,
    occupied_voxels,
    seen_from_above,
    sentence,
)
from vlm_nodes.langocc.vocabulary import ClassTexts
from vlm_nodes.simulation.street.rig import upright_pose
from vlm_nodes.surround.occupancy import CLASSES

ROAD, CAR = CLASSES.index('driveable_surface'), CLASSES.index('car')
TEXTS = ClassTexts(np.array([ROAD, CAR]), np.eye(2, 3, dtype=np.float32))
OPAQUE = 5.0


def prediction(*things):
    """Empty but for (voxel, density, feature)."""
    density = torch.zeros(1, 1, *GRID.shape)
    hidden = torch.zeros(1, 3, *GRID.shape)
    hidden[:, 2] = 1.0
    for voxel, dense, feature in things:
        density[(0, 0, *voxel)] = dense
        hidden[(0, slice(None), *voxel)] = torch.tensor(feature)
    return Prediction(Volume(density, hidden), GRID)


def test_occupied_voxels_have_their_middle_class_and_colour():
    seen = prediction(((5, 5, 0), OPAQUE, (1.0, 0.0, 0.0)), ((7, 2, 1), 0.2, (0.0, 0.8, 0.6)))
    voxels = occupied_voxels(seen, TEXTS, 0.1)
    assert len(voxels) == 2
    # Voxels of 1.6 m from (-8, -8, -1).
    np.testing.assert_allclose(voxels.points_m, [(0.8, 0.8, -0.2), (4.0, -4.0, 1.4)], atol=1e-5)
    assert voxels.classes.tolist() == [ROAD, CAR]
    np.testing.assert_allclose(voxels.scores, [1.0, 0.8], atol=1e-6)
    np.testing.assert_allclose(voxels.density, [OPAQUE, 0.2], rtol=1e-3)
    np.testing.assert_array_equal(voxels.colours(), COLOURS[[ROAD, CAR]])
    # 1 - exp(-0.2 1.6) is 0.27.
    assert len(occupied_voxels(seen, TEXTS, 0.3)) == 1


def test_from_above_only_what_stands_in_the_way_counts():
    seen = prediction(
        ((5, 5, 0), OPAQUE, (1.0, 0.0, 0.0)),  # road, and below the band
        ((6, 5, 1), OPAQUE, (1.0, 0.0, 0.0)),  # road within it: a ramp
        ((7, 2, 1), 0.2, (0.0, 1.0, 0.0)),  # a car that is half transparent
        ((8, 2, 3), OPAQUE, (0.0, 1.0, 0.0)),  # above the band
    )
    looked_at = np.ones(GRID.shape[:2], bool)
    looked_at[0, :] = False
    cells = seen_from_above(seen, TEXTS, looked_at, PlanConfig())
    assert cells.shape == (10, 10)
    assert cells.dtype == np.int8
    # Rows are along y, columns along x.
    assert cells[2, 7] == round(100 * (1 - np.exp(-0.32)))
    assert (cells[:, 0] == UNKNOWN).all()
    assert (np.delete(cells[:, 1:].reshape(-1), 2 * 9 + 6) == 0).all()
    assert PlanConfig(0.2, 2.5).layers(GRID) == slice(1, 2)
    assert PlanConfig(-0.5, 3.5).layers(GRID) == slice(0, 3)


def test_texts_are_found_at_the_voxel_that_fits_best():
    seen = prediction(
        ((5, 5, 0), OPAQUE, (1.0, 0.0, 0.0)),
        ((7, 2, 1), OPAQUE, (0.0, 0.8, 0.6)),
        ((2, 2, 1), OPAQUE, (0.0, 1.0, 0.0)),
    )
    voxels = occupied_voxels(seen, TEXTS, 0.1)
    asked = np.array([(0.0, 1.0, 0.0), (0.6, 0.0, 0.8)], np.float32)
    found = find(voxels, asked, 0.7)
    np.testing.assert_allclose(found.positions_m[0], (-4.0, -4.0, 1.4), atol=1e-5)
    np.testing.assert_allclose(found.scores, [1.0, 0.6], atol=1e-6)
    assert found.counts.tolist() == [2, 0]
    assert len(found.fitting) == 2
    assert found.best.tolist() == [0, 0]
    said = sentence(['a car', 'a cat'], found)
    assert said.startswith("'a car' 1.00 at (-4.0, -4.0, 1.4), 2 voxel(s); 'a cat' 0.60")
    with pytest.raises(ValueError, match='nothing to look for'):
        find(occupied_voxels(prediction(), TEXTS, 0.1), asked, 0.5)


def test_columns_are_covered_that_a_camera_looks_at():
    pose = upright_pose((0.0, 0.0, 1.0), 0.0) @ BODY_FROM_OPTICAL
    ahead = RigView(Camera(100, 60, 50.0, 50.0, 49.5, 29.5), pose)  # 45 degrees to each side
    coverage = Coverage(GRID)
    covered = coverage.of([ahead, None])
    centres = GRID.centres()[:, :, 1, :2]
    inside = np.abs(centres[..., 1]) < centres[..., 0] - 1e-6
    assert covered[inside].all()
    assert not covered[centres[..., 0] < 0].any()
    assert coverage.of([ahead, None]) is covered
    coverage.of([None, ahead])
    assert coverage.made == 2
