from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

# Number of coefficients each model takes; '' is an undistorted camera (D empty in its CameraInfo).
DISTORTION_LENGTHS = {
    '': (0,),
    'plumb_bob': (0, 4, 5),
    'rational_polynomial': (0, 8, 12, 14),
    'equidistant': (0, 4),
}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with lens distortion, in REP-103 optical axes (x right, y down, z forward).

    Pixel (u, v) = (0, 0) is the centre of the top left pixel, as in OpenCV and in CameraInfo.

    Attributes:
        width: Image width in pixels.
        height: Image height in pixels.
        fx: Focal length in pixels along u.
        fy: Focal length in pixels along v.
        cx: Principal point, u in pixels.
        cy: Principal point, v in pixels.
        distortion_model: '', 'plumb_bob', 'rational_polynomial' or 'equidistant'.
        distortion: The model's coefficients, in the order of sensor_msgs/CameraInfo.

    Raises:
        ValueError: A size or focal length is not positive, a number is not finite, or the
            distortion does not fit its model.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = 'plumb_bob'
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'camera size {self.width}x{self.height} is not positive')
        for name in ('fx', 'fy'):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f'focal length {name} = {getattr(self, name)} is not a positive number: '
                    'the camera is not calibrated'
                )
        if not np.isfinite([self.cx, self.cy, *self.distortion]).all():
            raise ValueError(
                f'camera has numbers that are not finite: cx {self.cx}, cy {self.cy}, '
                f'distortion {self.distortion}'
            )
        lengths = DISTORTION_LENGTHS.get(self.distortion_model)
        if lengths is None:
            raise ValueError(
                f'unknown distortion model {self.distortion_model!r}; '
                f'known are {sorted(DISTORTION_LENGTHS)}'
            )
        if len(self.distortion) not in lengths:
            raise ValueError(
                f'distortion model {self.distortion_model!r} takes {lengths} coefficients, '
                f'got {len(self.distortion)}'
            )

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, width: int, height: int) -> Camera:
        """An undistorted camera from its (3, 3) intrinsic matrix."""
        k = np.asarray(matrix, dtype=np.float64)
        if k.shape != (3, 3):
            raise ValueError(f'intrinsic matrix has shape {k.shape}, not (3, 3)')
        return cls(width, height, float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))

    @classmethod
    def from_calibration(
        cls,
        size: tuple[int, int],
        k: ArrayLike,
        distortion_model: str = '',
        distortion: ArrayLike = (),
        *,
        region: tuple[int, int, int, int] = (0, 0, 0, 0),
        binning: tuple[int, int] = (1, 1),
    ) -> Camera:
        """The camera of the image that is sent, from what a sensor_msgs/CameraInfo says.

        Args:
            size: Width and height of the calibrated image.
            k: The 9 numbers of the intrinsic matrix, row by row.
            distortion_model: As in CameraInfo; not looked at where `distortion` is empty.
            distortion: As in CameraInfo.
            region: The image is this cut (x, y, width, height) of the calibrated one; zeros: all.
            binning: Pixels of the calibrated image in one of the sent image, across and down.

        Raises:
            ValueError: The numbers make no camera; an uncalibrated one has zeros in `k`.
        """
        numbers = np.asarray(k, dtype=np.float64).reshape(-1)
        if numbers.size != 9:
            raise ValueError(f'the intrinsic matrix k has {numbers.size} numbers, not 9')
        d = tuple(float(value) for value in np.asarray(distortion, dtype=np.float64).reshape(-1))
        x, y, width, height = region if region[2] and region[3] else (0, 0, *size)
        cut = cls(
            int(width),
            int(height),
            float(numbers[0]),
            float(numbers[4]),
            float(numbers[2]) - x,
            float(numbers[5]) - y,
            distortion_model if d else '',
            d,
        )
        across, down = max(1, binning[0]), max(1, binning[1])
        if across == down == 1:
            return cut
        return cut.resized(cut.width // across, cut.height // down)

    @classmethod
    def from_fov(cls, width: int, height: int, vertical_fov_rad: float) -> Camera:
        """A camera with square pixels whose image spans the vertical angle `vertical_fov_rad`."""
        f = 0.5 * height / np.tan(0.5 * vertical_fov_rad)
        return cls(width, height, float(f), float(f), (width - 1) / 2, (height - 1) / 2)

    @property
    def is_distorted(self) -> bool:
        """Whether the lens bends rays at all."""
        return any(d != 0.0 for d in self.distortion)

    def matrix(self) -> NDArray[np.float64]:
        """The (3, 3) intrinsic matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same camera after its image is resized; pixel centres stay where the scene is."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            self.distortion_model,
            self.distortion,
        )

    def rays(self) -> NDArray[np.float32]:
        """Every pixel's ray, distortion undone: (height, width, 2) float32 of x/z and y/z.

        Computed once and shared: do not write to it.
        """
        return self._rays

    @cached_property
    def _rays(self) -> NDArray[np.float32]:
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        if self.is_distorted:
            pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2).astype(np.float64)
            rays = self._undistort(pixels).reshape(self.height, self.width, 2).astype(np.float32)
        else:
            rays = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], axis=-1)
            rays = rays.astype(np.float32)
        rays.flags.writeable = False
        return rays

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels of points given in camera coordinates.

        Args:
            points: (N, 3) metres, optical axes.

        Returns:
            (N, 2) float64 of (u, v), distortion applied; NaN for points not in front (z <= 0).
        """
        xyz = np.asarray(points, dtype=np.float64)
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f'points have shape {xyz.shape}, not (N, 3)')
        pixels = np.full((len(xyz), 2), np.nan)
        front = xyz[:, 2] > 0
        if not front.any():
            return pixels
        if self.is_distorted:
            pixels[front] = self._distort(xyz[front])
        else:
            rays = xyz[front, :2] / xyz[front, 2:]
            pixels[front] = rays * (self.fx, self.fy) + (self.cx, self.cy)
        return pixels

    def _undistort(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        d = np.asarray(self.distortion)
        if self.distortion_model == 'equidistant':
            return np.asarray(cv2.fisheye.undistortPoints(pixels, self.matrix(), d))
        # More iterations than OpenCV's default of 5, which leaves errors of pixels at wide corners.
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
        return np.asarray(
            cv2.undistortPointsIter(pixels, self.matrix(), d, np.eye(3), np.eye(3), criteria)
        )

    def _distort(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        d, zero = np.asarray(self.distortion), np.zeros(3)
        xyz = points.reshape(-1, 1, 3)
        if self.distortion_model == 'equidistant':
            pixels, _ = cv2.fisheye.projectPoints(xyz, zero, zero, self.matrix(), d)
        else:
            pixels, _ = cv2.projectPoints(xyz, zero, zero, self.matrix(), d)
        return np.asarray(pixels).reshape(-1, 2)
