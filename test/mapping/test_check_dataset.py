import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from ray_cast_rooms import (
    DEPTH_CAMERA,
    WIDER_CAMERA,
    RoomRecording,
    cast,
    changed,
    record_room,
    write_seven_scenes,
    write_vlmaps,
)

from vlm_nodes.geometry import RgbdFrame
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL, invert, matrix_from_quaternion
from vlm_nodes.mapping import fusion_check
from vlm_nodes.mapping.check_dataset import main, warped_color, warped_depth
from vlm_nodes.mapping.datasets import Correction, FolderConfig, open_folder
from vlm_nodes.mapping.fusion_check import CheckConfig, Report, Verdict, options_for
from vlm_nodes.mapping.reprojection import PairConfig, choose_pairs

# Fewer pairs and readings than the tool takes by default: the tests are many.
QUICK = CheckConfig(pairs=PairConfig(max_pairs=8, points=2500))
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
KITCHEN_COLOR = (526.5, 526.5, 314.0, 237.0)

Pose = Callable[[np.ndarray], np.ndarray]

# What was done to the poses, and what puts it right.
POSE_MISTAKES: dict[str, tuple[Pose, Correction]] = {
    'inverted': (invert, Correction(poses_inverted=True)),
    'opengl': (lambda pose: pose @ OPENGL, Correction(camera_axes='opengl')),
    'body': (lambda pose: pose @ invert(BODY_FROM_OPTICAL), Correction(camera_axes='body')),
    'turned': (lambda pose: pose @ BODY_FROM_OPTICAL, Correction(camera_axes='turned')),
}
SCALE_MISTAKES = (1000.0, 0.001, 5.0, 10.0)


@pytest.fixture(scope='module')
def room() -> RoomRecording:
    return record_room(24)


@pytest.fixture(scope='module')
def kitchen(vlm_data: Path) -> RoomRecording:
    config = FolderConfig(color_intrinsics=KITCHEN_COLOR)
    return RoomRecording(list(open_folder(vlm_data / 'kitchen_rgbd', config)))


@pytest.fixture(scope='module', params=['room', 'kitchen'])
def recording(request: pytest.FixtureRequest) -> RoomRecording:
    found: RoomRecording = request.getfixturevalue(request.param)
    return found


def check(frames: Iterable[RgbdFrame]) -> Report:
    return fusion_check.check(frames, QUICK)


def with_poses(recording: RoomRecording, change: Pose) -> RoomRecording:
    return changed(
        recording,
        map_from_depth=lambda f: change(f.map_from_depth),
        map_from_color=lambda f: change(f.map_from_color),
    )


def with_scale(recording: RoomRecording, scale: float) -> RoomRecording:
    return changed(recording, depth_m=lambda f: f.depth_m * np.float32(scale))


def test_what_is_right_is_said_to_fuse(recording: RoomRecording) -> None:
    report = check(recording)
    assert report.verdict is Verdict.FUSES, report.text
    assert report.hypotheses[0].fit.median_error_m < 0.015
    assert report.hypotheses[0].fit.overlap > 0.5
    # No mistake that was not made comes near.
    for hypothesis in report.hypotheses[1:]:
        assert hypothesis.fit.agreement < 0.5 * report.hypotheses[0].fit.agreement


@pytest.mark.parametrize('name', list(POSE_MISTAKES))
def test_a_mistake_in_the_poses_is_named(recording: RoomRecording, name: str) -> None:
    change, cure = POSE_MISTAKES[name]
    report = check(with_poses(recording, change))
    assert report.verdict is Verdict.MISTAKE
    assert report.correction == cure
    assert options_for(cure) in report.text
    best = next(h for h in report.hypotheses if h.correction == cure)
    assert best.fit.median_error_m < 0.015
    assert best.fit.median_error_m < 0.1 * report.hypotheses[0].fit.median_error_m


@pytest.mark.parametrize('scale', SCALE_MISTAKES)
def test_a_wrong_unit_is_named(recording: RoomRecording, scale: float) -> None:
    report = check(with_scale(recording, scale))
    assert report.verdict is Verdict.MISTAKE
    assert report.correction == Correction(depth_scale=1 / scale)
    assert f'--depth-scale {1 / scale:g}' in report.text


@pytest.mark.parametrize('name', list(POSE_MISTAKES))
@pytest.mark.parametrize('scale', [1000.0, 0.001])
def test_two_mistakes_at_once_are_named(room: RoomRecording, name: str, scale: float) -> None:
    change, cure = POSE_MISTAKES[name]
    report = check(with_scale(with_poses(room, change), scale))
    assert report.correction == replace(cure, depth_scale=1 / scale)


def test_unregistered_color_is_named_and_fitted(kitchen: RoomRecording) -> None:
    as_registered = changed(kitchen, color_camera=lambda f: f.depth_camera)
    report = check(as_registered)
    assert report.verdict is Verdict.MISTAKE
    assert 'colour is not registered' in report.text
    assert report.correction == Correction()
    fitted = report.color[-1].camera
    # The fit known for this camera is 0.90 of the depth camera's focal length.
    assert fitted.fx / 585 == pytest.approx(0.90, abs=0.025)
    assert (fitted.cx, fitted.cy) == pytest.approx((314, 237), abs=8)
    assert report.color[-1].fit.correlation > report.color[0].fit.correlation + 0.2


def test_unregistered_color_of_the_room_is_named_and_fitted() -> None:
    wide = record_room(24, WIDER_CAMERA)
    assert check(wide).verdict is Verdict.FUSES
    report = check(changed(wide, color_camera=lambda f: DEPTH_CAMERA))
    assert report.verdict is Verdict.MISTAKE
    fitted = report.color[-1].camera
    assert fitted.fx == pytest.approx(WIDER_CAMERA.fx, rel=0.02)
    assert (fitted.cx, fitted.cy) == pytest.approx((WIDER_CAMERA.cx, WIDER_CAMERA.cy), abs=2)


def test_unregistered_color_is_named_beside_a_mistake(room: RoomRecording) -> None:
    wide = record_room(24, WIDER_CAMERA)
    report = check(with_poses(changed(wide, color_camera=lambda f: DEPTH_CAMERA), invert))
    assert '--poses-inverted' in report.text
    assert '--color-intrinsics' in report.text


def test_poses_that_no_mistake_explains(room: RoomRecording) -> None:
    rng = np.random.default_rng(0)

    def shaken(pose: np.ndarray) -> np.ndarray:
        turn = np.append(rng.normal(0, 0.15, 3), 1.0)
        return pose @ matrix_from_quaternion(turn, rng.normal(0, 0.25, 3))

    report = check(with_poses(room, shaken))
    assert report.verdict is Verdict.DOES_NOT_FUSE
    assert 'no usual mistake explains it' in report.text


def test_poses_and_depth_both_in_millimetres_are_named(room: RoomRecording) -> None:
    def in_mm(pose: np.ndarray) -> np.ndarray:
        scaled = pose.copy()
        scaled[:3, 3] *= 1000
        return scaled

    report = check(with_scale(with_poses(room, in_mm), 1000))
    assert report.verdict is Verdict.MISTAKE
    assert 'not in metres' in report.text


@pytest.mark.parametrize('count', [0, 1, 5])
def test_a_camera_that_never_moves_cannot_be_told(room: RoomRecording, count: int) -> None:
    report = check([room.frames[0]] * count)
    assert report.verdict is Verdict.CANNOT_TELL
    assert report.frames == count


def test_frames_that_see_nothing_in_common_cannot_be_told(room: RoomRecording) -> None:
    def scattered(pose: np.ndarray) -> np.ndarray:
        moved = pose.copy()
        moved[:3, 3] *= 1e4
        return moved

    assert check(with_poses(room, scattered)).verdict is Verdict.CANNOT_TELL


def test_frames_without_depth_cannot_be_told(room: RoomRecording) -> None:
    blind = changed(room, depth_m=lambda f: np.full_like(f.depth_m, np.nan))
    assert check(blind).verdict is Verdict.CANNOT_TELL


def test_too_little_motion_is_noted(room: RoomRecording) -> None:
    first = room.frames[0]
    nudge = matrix_from_quaternion((0, 0, 0, 1), (0.002, 0, 0))
    second = replace(
        first,
        map_from_depth=first.map_from_depth @ nudge,
        map_from_color=first.map_from_color @ nudge,
    )
    report = check([first, second])
    assert report.verdict is Verdict.CANNOT_TELL
    assert any('motion does not tell apart' in note for note in report.notes)


def test_the_axis_that_points_up_is_noted(room: RoomRecording) -> None:
    assert not any('--up' in note for note in check(room).notes)
    turned = with_poses(room, lambda pose: invert(BODY_FROM_OPTICAL) @ pose)
    assert any('--up=-y' in note for note in check(turned).notes)


def test_pairs_are_some_motion_apart_and_not_too_many(room: RoomRecording) -> None:
    config = PairConfig(min_angle_rad=0.2, min_distance_m=0.3, max_pairs=3)
    pairs = choose_pairs(list(room) * 4, config)
    assert 1 <= len(pairs) <= 3
    assert all(pair.first_index < pair.second_index for pair in pairs)


def test_warped_depth_is_what_the_second_camera_sees(room: RoomRecording) -> None:
    (pair, *_) = choose_pairs(room, PairConfig())
    warped = warped_depth(pair, Correction())
    both = np.isfinite(warped)
    assert both.mean() > 0.4
    difference = np.abs(warped - pair.second.depth_m)[both]
    assert np.median(difference) < 0.01


def test_warped_color_is_what_the_second_camera_sees() -> None:
    wide = record_room(24, WIDER_CAMERA)
    (pair, *_) = choose_pairs(wide, PairConfig())
    seen, _ = cast(DEPTH_CAMERA, pair.second.map_from_depth)
    warped = warped_color(pair, Correction()).astype(int)
    known = warped.any(axis=-1)
    assert known.mean() > 0.4
    assert np.median(np.abs(warped - seen)[known]) < 5


def test_the_transposed_mount_of_vlmaps_readme_is_named(
    tmp_path: Path, room: RoomRecording
) -> None:
    mount = BODY_FROM_OPTICAL[:3, :3]
    root = write_vlmaps(
        tmp_path / 'room', with_poses(room, lambda p: p @ invert(BODY_FROM_OPTICAL))
    )
    right = open_folder(root, FolderConfig(base_from_camera=tuple(mount.ravel())))
    assert check(right).verdict is Verdict.FUSES
    wrong = open_folder(root, FolderConfig(base_from_camera=tuple(mount.T.ravel())))
    report = check(wrong)
    assert report.verdict is Verdict.MISTAKE
    assert 'base_from_camera is transposed' in report.text


def test_bad_config_is_named() -> None:
    with pytest.raises(ValueError, match='max_error_share = 0'):
        CheckConfig(max_error_share=0)
    with pytest.raises(ValueError, match='min_angle_rad = -1'):
        PairConfig(min_angle_rad=-1)


def test_command_line_fuses(
    tmp_path: Path, room: RoomRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_vlmaps(tmp_path / 'room', room)
    picture = tmp_path / 'check.png'
    assert main([str(root), '--picture', str(picture)]) == 0
    out = capsys.readouterr().out
    assert 'verdict: fuses' in out
    assert 'poses are inverted' in out  # the figures of what was tried
    assert cv2.imread(str(picture)).shape[1] > 600


def test_command_line_names_the_mistake_and_its_cure_cures(
    tmp_path: Path, room: RoomRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_seven_scenes(tmp_path / 'room', with_poses(room, invert))
    picture = tmp_path / 'check.png'
    assert main([str(root), '--picture', str(picture), '--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert report['verdict'] == 'mistake'
    assert report['text'].endswith('--poses-inverted')
    given, inverted = (
        next(h for h in report['depth'] if words in h['if']) for words in ('as given', 'inverted')
    )
    assert inverted['median_error_m'] < 0.1 * given['median_error_m']
    assert picture.is_file()
    assert main([str(root), '--no-picture', '--poses-inverted']) == 0


def test_command_line_says_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / 'nowhere')]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert 'there is no data set at' in captured.err


@pytest.mark.parametrize('name', ['kitchen_mcap_zstd', 'kitchen_sqlite3'])
def test_recorded_bags_fuse(vlm_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(vlm_data / 'bags' / name), '--no-picture', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['depth'][0]['median_error_m'] < 0.012
    assert report['color'][0]['correlation'] > 0.8
