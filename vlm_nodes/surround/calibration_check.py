"""Do cameras look where their calibration says? LiDAR against pictures, one direction at a time.

Where distance jumps along a ring of the LiDAR, something ends, and a picture mostly has an edge.
Turning a camera in thought, jumps fall on edges in one direction only (after Levinson and Thrun,
Automatic Online Calibration of Cameras and Lasers, RSS 2013). The best of all directions is held
against the one that the calibration says; how far both stand out from all others is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import Keyframe, Matrix
from vlm_nodes.surround.sensor_files import read_image, read_points

YAWS_DEG: Final = np.arange(-10.0, 10.01, 0.5)
PITCHES_DEG: Final = np.arange(-4.0, 4.01, 1.0)
STANDS_OUT: Final = 3.6
"""Standard deviations from which a direction is told from chance: of some hundred, of which a
neighbour or two are alike, the best by chance has about 2.5 to 3.3."""

_CHANCE: Final = 3.0
"""What stands out more than this is not wrong, even where something else stands out further."""
_CLEARLY: Final = 1.5
"""Standard deviations by which one direction is better than another."""
_LEAST_YAW_DEG: Final = 1.5
_LEAST_PITCH_DEG: Final = 3.0
_LEAST_JUMPS: Final = 60

_WIDTH_PX: Final = 400
_EDGE_PX: Final = 1.5
_ABOUT_PX: Final = 15.0
_GREY: Final = 5.0
"""Of 255 a pixel and more: what counts as contrast where there is none about."""

_NEAREST_M: Final = 3.0
_SKY_M: Final = 20.0
"""Jump where the LiDAR got no answer: what is behind is far, or is the sky."""
_JUMP_M: Final = 0.3
_JUMP_SHARE: Final = 0.03
_MOST_M: Final = 5.0
_PLAIN_STRIDE: Final = 8


@dataclass(frozen=True)
class CameraFit:
    """How well a camera's calibration fits.

    Attributes:
        name: Of the camera.
        jumps: Of the LiDAR, on its pictures.
        given: How far its direction as it is given stands out, in standard deviations.
        best: The same of the best direction.
        yaw_deg: How far to the right of the best direction the calibration looks.
        pitch_deg: How far below it.
        place_of: Another camera in whose place its pictures fit, or ''.
        text: What that means; '' where nothing is wrong.
        is_known: Whether it can be told.
    """

    name: str
    jumps: int
    given: float
    best: float
    yaw_deg: float
    pitch_deg: float
    place_of: str = ''
    text: str = ''
    is_known: bool = True


@dataclass(frozen=True)
class CalibrationReport:
    """What a check found.

    Attributes:
        keyframes: That were looked at.
        cameras: Fits, in the cameras' order.
    """

    keyframes: int
    cameras: tuple[CameraFit, ...]

    @property
    def fits(self) -> bool:
        """Whether all cameras look where they should, as far as can be told of any."""
        return not self.wrong and any(fit.is_known for fit in self.cameras)

    @property
    def wrong(self) -> list[CameraFit]:
        """Cameras of which something is wrong."""
        return [fit for fit in self.cameras if fit.is_known and fit.text]

    @property
    def text(self) -> str:
        """What was found, in a line."""
        if shared := self._lidar_yaw():
            return f'all cameras are off alike: the LiDAR is turned by {abs(shared):.1f} degrees'
        if self.wrong:
            return '; '.join(f'{fit.name} {fit.text}' for fit in self.wrong)
        unknown = [fit.name for fit in self.cameras if not fit.is_known]
        if len(unknown) == len(self.cameras):
            return 'it cannot be told: too little stands out before what is behind it'
        said = f'; of {", ".join(unknown)} it cannot be told' if unknown else ''
        return f'cameras look where their calibration says{said}'

    def _lidar_yaw(self) -> float:
        turned = [fit.yaw_deg for fit in self.wrong if not fit.place_of]
        known = [fit for fit in self.cameras if fit.is_known]
        alike = turned and max(turned) - min(turned) <= _LEAST_YAW_DEG
        return float(np.mean(turned)) if alike and len(turned) == len(known) > 2 else 0.0


def check_calibration(keyframes: Sequence[Keyframe]) -> CalibrationReport:
    """Hold the LiDAR's sweeps of keyframes against their pictures.

    Args:
        keyframes: With sweeps; half a dozen of different places tell most of what more would.

    Raises:
        SurroundError: There is no keyframe, one has no sweep, or a file cannot be read.
    """
    if not keyframes:
        raise SurroundError('there is no keyframe to check')
    moments = [_Moment.of(keyframe) for keyframe in keyframes]
    names = list(dict.fromkeys(name for keyframe in keyframes for name in keyframe.cameras))
    fits = {name: _fit(moments, name, name) for name in names}
    for name, fit in fits.items():
        if not fit.is_known or fit.text:
            others = [other for other in names if other != name]
            fits[name] = _in_another_place(moments, fit, others)
    return CalibrationReport(len(moments), tuple(fits.values()))


@dataclass(frozen=True)
class _Moment:
    """A keyframe with what is compared.

    Attributes:
        keyframe: Where cameras are.
        points_m: (N, 3) LiDAR frame.
        jumps: (N,) metres, limited; 0 where nothing ends.
        edges: By camera, (h, w) float32: how strong edges are against what is about.
    """

    keyframe: Keyframe
    points_m: Matrix
    jumps: NDArray[np.float64]
    edges: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, keyframe: Keyframe) -> _Moment:
        """Read and prepare a keyframe."""
        if keyframe.lidar is None:
            raise SurroundError(f'keyframe {keyframe.token!r} has no LiDAR sweep to check by')
        points = read_points(keyframe.lidar).astype(np.float64)
        points = points[np.linalg.norm(points[:, :3], axis=1) > _NEAREST_M]
        jumps = ring_jumps(points[:, :3], points[:, 4])
        # Most points are of plain surfaces; some of them tell what an edge is stronger than.
        kept = (jumps > 0) | (np.arange(len(points)) % _PLAIN_STRIDE == 0)
        edges = {name: upright_edges(read_image(i)) for name, i in keyframe.cameras.items()}
        return cls(keyframe, points[kept, :3], jumps[kept], edges)


def ring_jumps(points_m: Matrix, rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much what lies beside each point of a ring is farther away, in metres.

    Args:
        points_m: (N, 3) LiDAR frame.
        rings: (N,) number of each point's ring.

    Returns:
        (N,) up to 5 m; 0 where the distance goes on as it was.
    """
    jumps = np.zeros(len(points_m))
    distance = np.linalg.norm(points_m, axis=1)
    azimuth = np.arctan2(points_m[:, 1], points_m[:, 0])
    for ring in np.unique(rings):
        order = np.flatnonzero(rings == ring)
        order = order[np.argsort(azimuth[order])]
        if len(order) < 3:
            continue
        d, a = distance[order], azimuth[order]
        before = np.mod(a - np.roll(a, 1), 2 * np.pi)
        wide = 4 * np.median(before)
        farther = np.maximum(
            np.where(before < wide, np.roll(d, 1) - d, _SKY_M),
            np.where(np.roll(before, -1) < wide, np.roll(d, -1) - d, _SKY_M),
        )
        is_jump = farther > _JUMP_M + _JUMP_SHARE * d
        jumps[order] = np.where(is_jump, np.minimum(farther, _MOST_M), 0.0)
    return jumps


def upright_edges(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How strong upright edges are, against what is about them: (h, w), at most 400 pixels wide."""
    shrink = min(1.0, _WIDTH_PX / rgb.shape[1])
    small = cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0))
    about = cv2.GaussianBlur(across, (0, 0), _ABOUT_PX)
    edges = cv2.GaussianBlur(across, (0, 0), _EDGE_PX) / (about + _GREY)
    return np.asarray(edges, np.float32)


def turned(yaw_deg: float, pitch_deg: float) -> Matrix:
    """(4, 4) from a camera that looks too far to the right and down to one that does not.

    Optical axes; what it sees moves to the right and down.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler('yx', [yaw_deg, -pitch_deg], degrees=True).as_matrix()
    return matrix


def _fit(moments: Sequence[_Moment], name: str, place: str) -> CameraFit:
    """How pictures of a camera fit in the place of a camera, its own or another's."""
    scores, jumps = _scores(moments, name, place)
    if jumps < _LEAST_JUMPS:
        return CameraFit(name, jumps, 0.0, 0.0, 0.0, 0.0, is_known=False)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    others = np.ones(scores.shape, bool)
    others[max(0, row - 4) : row + 5, max(0, column - 2) : column + 3] = False
    out = (scores - scores[others].mean()) / max(float(scores[others].std()), 1e-9)
    given = float(out[len(YAWS_DEG) // 2, len(PITCHES_DEG) // 2])
    yaw, pitch = float(YAWS_DEG[row]), float(PITCHES_DEG[column])
    fit = CameraFit(name, jumps, given, float(out[row, column]), yaw, pitch)
    if fit.best < STANDS_OUT:
        return replace(fit, is_known=False)
    return replace(fit, text=_words(fit))


def _scores(moments: Sequence[_Moment], name: str, place: str) -> tuple[NDArray[np.float64], int]:
    """By how much edges are stronger at jumps than elsewhere, by yaw and pitch; and how many jumps.

    Returns:
        (yaws, pitches) means over all keyframes, weighted by the jumps, and the number of jumps
        where the calibration says.
    """
    total = np.zeros((len(YAWS_DEG), len(PITCHES_DEG)))
    weight, count = np.zeros_like(total), 0
    for moment in moments:
        keyframe = moment.keyframe
        if name not in keyframe.cameras or place not in keyframe.cameras or not keyframe.lidar:
            continue
        lidar = keyframe.lidar
        pose = invert(keyframe.cameras[place].map_from_camera)
        seen = transform_points(pose @ lidar.map_from_ego @ lidar.ego_from_lidar, moment.points_m)
        edges = moment.edges[name]
        camera = keyframe.cameras[place].camera.resized(edges.shape[1], edges.shape[0])
        widest = np.arctan(np.abs(camera.rays()[..., 0]).max()) + np.radians(YAWS_DEG.max() + 1)
        near = np.abs(np.arctan2(seen[:, 0], seen[:, 2])) < widest
        seen, jumps = seen[near], moment.jumps[near]
        for row, yaw in enumerate(YAWS_DEG):
            for column, pitch in enumerate(PITCHES_DEG):
                points = transform_points(turned(yaw, pitch), seen)
                inside, values = _look_up(edges, camera.project(points))
                here, strong = jumps[inside], jumps[inside] > 0
                if strong.any() and not strong.all():
                    stronger = values[strong] - values[~strong].mean()
                    total[row, column] += (here[strong] * stronger).sum()
                    weight[row, column] += here[strong].sum()
                if yaw == pitch == 0:
                    count += int(strong.sum())
    return total / np.maximum(weight, 1e-9), count


def _look_up(
    image: NDArray[np.float32], pixels: Matrix
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which (N, 2) pixels lie in a picture, and its values there, between pixels linearly."""
    # Behind the camera is NaN, which compares as False.
    with np.errstate(invalid='ignore'):
        size = (image.shape[1] - 1, image.shape[0] - 1)
        inside = np.asarray(((pixels >= 0) & (pixels <= size)).all(axis=1))
    u, v = pixels[inside].astype(np.float32).T
    if not len(u):
        return inside, np.zeros(0, np.float32)
    return inside, np.asarray(cv2.remap(image, u[None], v[None], cv2.INTER_LINEAR)[0])


def _words(fit: CameraFit) -> str:
    if fit.given > _CHANCE or fit.best - fit.given < _CLEARLY:
        return ''
    if abs(fit.yaw_deg) >= _LEAST_YAW_DEG:
        said = f'{abs(fit.yaw_deg):.1f} degrees to the {"right" if fit.yaw_deg > 0 else "left"}'
    elif abs(fit.pitch_deg) >= _LEAST_PITCH_DEG:
        # Upright edges say little of heights: beside a yaw it is not worth telling.
        said = f'{abs(fit.pitch_deg):.0f} degrees {"down" if fit.pitch_deg > 0 else "up"}'
    else:
        return ''
    return f'looks too far by its calibration: {said}'


def _in_another_place(
    moments: Sequence[_Moment], fit: CameraFit, others: Sequence[str]
) -> CameraFit:
    """The same, where pictures fit in the place of another camera."""
    for other in others:
        there = _fit(moments, fit.name, other)
        if there.is_known and not there.text and there.given > fit.best:
            text = f'sees what {other} should see: are pictures or calibrations swapped?'
            return replace(there, place_of=other, text=text)
    return fit
