"""Two real cameras over one real tote.

The calibration that comes with these recordings is off: the empty tote's floor lies 8 cm apart in
the two views, and what one camera sees is 15 % larger than in the other, so that no pose alone
makes them agree. It is no misreading: the heightmap that their publishers made of them comes out,
doubled things and all. The frames of the empty tote are therefore used to align the cameras, and
what is asked of them is asked of other frames, of the tote with objects in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlm_nodes.cliport.alignment import Correction, agreements, align
from vlm_nodes.cliport.heightmap import EmptyHeightmapError, View, fuse
from vlm_nodes.cliport.placing import held_object
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry import Camera

DEPTH_UNITS_PER_M = 10000
BENCHMARK = Path(__file__).resolve().parents[2] / 'benchmarks' / 'cliport_tote.py'


@pytest.fixture(scope='module')
def tote(vlm_data: Path) -> Path:
    folder = vlm_data / 'tote_rgbd'
    if not folder.is_dir():
        pytest.skip(f'no recording at {folder}')
    return folder


@pytest.fixture(scope='module')
def workspace(tote: Path) -> Workspace:
    # 60 by 40 cm around the tote's floor, from 8 cm under where it is said to be to 30 cm above.
    x, y, z = np.loadtxt(tote / 'bin-position.txt')
    return Workspace((x - 0.3, x + 0.3), (y - 0.2, y + 0.2), (z - 0.08, z + 0.3), 0.002)


def read_views(folder: Path, kind: str) -> list[View]:
    views = []
    for number in (0, 1):
        rgb = cv2.imread(str(folder / f'{kind}-{number}.color.png'))[..., ::-1]
        depth = cv2.imread(str(folder / f'{kind}-{number}.depth.png'), cv2.IMREAD_UNCHANGED)
        k = np.loadtxt(folder / f'camera-{number}.intrinsics.txt')
        pose = np.loadtxt(folder / f'camera-{number}.pose.txt')
        depth_m = (depth / DEPTH_UNITS_PER_M).astype(np.float32)
        views.append(
            View(np.ascontiguousarray(rgb), depth_m, Camera.from_matrix(k, 640, 480), pose)
        )
    return views


@pytest.fixture(scope='module')
def correction(tote: Path, workspace: Workspace) -> Correction:
    """Of camera 0, whose floor is tilted by 5 degrees, from the empty tote."""
    return align(*read_views(tote, 'background'), workspace, scale_depth=True)


def test_the_calibration_as_it_comes_is_seen_to_be_off(tote: Path, workspace: Workspace) -> None:
    (agreement,) = agreements(read_views(tote, 'input'), workspace)
    assert agreement.share > 0.4
    assert agreement.median_m > 0.05


def test_views_agree_once_they_are_aligned_on_the_empty_tote(
    tote: Path, workspace: Workspace, correction: Correction
) -> None:
    front, back = read_views(tote, 'input')
    (agreement,) = agreements([correction.apply(front), back], workspace)
    assert agreement.share > 0.4
    assert agreement.median_m < 0.005
    assert agreement.p90_m < 0.025  # glass, thin wires and the edges of things


# Holes and rivets in the floor, found by eye: (u, v) in camera 0 and in camera 1.
MARKS = (
    ((423, 350), (215, 193)), ((422, 326), (211, 208)), ((192, 349), (435, 199)),
    ((194, 328), (433, 213)), ((209, 150), (470, 415)), ((208, 162), (467, 391)),
    ((399, 148), (175, 406)), ((399, 162), (181, 381)),
)  # fmt: skip


def test_marks_on_the_floor_meet_which_alignment_did_not_look_at(
    tote: Path, correction: Correction
) -> None:
    """Alignment sees no colour: what colour shows bears witness."""
    front, back = read_views(tote, 'input')
    mended = correction.apply(front)
    claimed = np.median([np.linalg.norm(point(front, a) - point(back, b)) for a, b in MARKS])
    aligned = np.median([np.linalg.norm(point(mended, a) - point(back, b)) for a, b in MARKS])
    assert claimed > 0.08
    assert aligned < 0.015


def test_it_is_the_depths_of_one_camera_that_are_too_long(
    tote: Path, correction: Correction
) -> None:
    front, back = read_views(tote, 'background')
    seen = [np.array([point(v, m[i]) for m in MARKS]) for i, v in enumerate((front, back))]
    # How far marks are from each other depends on no pose.
    pairs = np.triu_indices(len(MARKS), 1)
    first, second = (np.linalg.norm(p[pairs[0]] - p[pairs[1]], axis=1) for p in seen)
    far = first > 0.1
    assert np.median((second / first)[far]) == pytest.approx(correction.depth_scale, abs=0.02)
    # With the poses as they come, a factor for each camera makes the marks meet: only one is not 1.
    eyes = [view.table_from_camera[:3, 3] for view in (front, back)]
    rays = [(p - eye).ravel() for p, eye in zip(seen, eyes, strict=True)]
    gap = np.tile(eyes[1] - eyes[0], len(MARKS))
    factors, *_ = np.linalg.lstsq(np.stack([rays[0], -rays[1]], axis=1), gap)
    assert factors[0] == pytest.approx(correction.depth_scale, abs=0.02)
    assert factors[1] == pytest.approx(1, abs=0.02)


def point(view: View, pixel: tuple[int, int]) -> np.ndarray:
    """The point of the table frame at a pixel (u, v), by the median depth around it."""
    u, v = pixel
    around = view.depth_m[v - 4 : v + 5, u - 4 : u + 5]
    depth = np.median(around[around > 0])
    ray = np.append(view.camera.rays()[v, u], 1.0)
    return view.table_from_camera[:3, :3] @ (ray * depth) + view.table_from_camera[:3, 3]


def test_the_fused_tote_shows_what_lies_in_it(
    tote: Path, workspace: Workspace, correction: Correction
) -> None:
    front, back = read_views(tote, 'input')
    heightmap = fuse([correction.apply(front), back], workspace)
    floor = np.median(heightmap.height_m[60:140, 110:190])
    assert np.ptp(np.percentile(heightmap.height_m[60:140, 110:190], (10, 90))) < 0.03
    assert heightmap.coverage > 0.7
    # The wooden handle of the whisk: lighter than the floor, and a few centimetres high.
    ((row, col),) = np.floor(workspace.pixels([point(back, (208, 250))[:2]])).astype(int)
    held = held_object(heightmap, row, col)
    assert 0.008 < held.pick_z_m - floor < 0.06
    red, green, blue = heightmap.color[row - 2 : row + 3, col - 2 : col + 3].mean(axis=(0, 1))
    assert green > 0.55 * red
    assert green > blue


def test_a_pose_the_wrong_way_round_shows_an_empty_tote(tote: Path, workspace: Workspace) -> None:
    inverted = [
        View(v.rgb, v.depth_m, v.camera, np.linalg.inv(v.table_from_camera))
        for v in read_views(tote, 'input')
    ]
    with pytest.raises(EmptyHeightmapError, match='look at its pose'):
        fuse(inverted, workspace)


def test_the_benchmark_says_how_far_off_the_calibration_is(tote: Path) -> None:
    command = [sys.executable, str(BENCHMARK), '--data']
    done = subprocess.run([*command, tote.parent], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    # The publishers' own heightmap comes out: the recording is read as they read it.
    assert figures['published_overlap'] > 0.9
    assert figures['published_difference'] < 4
    assert figures['raw_median_mm'] > 50
    assert figures['scaled_median_mm'] < 0.25 * figures['raw_median_mm']
    assert figures['aligned_within_cm'] > 0.8
    assert figures['aligned_median_mm'] < 5
    assert 0.8 < figures['depth_scale'] < 0.95
    absent = subprocess.run([*command, BENCHMARK.parent], capture_output=True, text=True)
    assert absent.returncode == 2
    assert 'bin-position.txt not found' in absent.stderr
