"""Parameters of the voxel map."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VoxelMapConfig:
    """How depth and features become voxels. Every value is checked.

    Attributes:
        voxel_size_m: Edge of a voxel.
        feature_dim: Numbers stored per voxel where the encoder gives more; 0 stores all it gives.
        min_depth_m: Nearer readings are not fused.
        max_depth_m: Farther readings are not fused (they still show that space is free).
        weight_distance_m: d0 of a pixel's weight 1 / (1 + (depth / d0)^2): inverse-square, as
            KinectFusion and nvblox weight by distance, but bounded near the camera, and never 0.
        edge_jump: Relative depth jump at which a pixel's weight halves; 0 switches this off.
        max_weight: Cap of a voxel's weight, so that features and colours follow a scene that
            changes; 0 is no cap.
        clear_after: Frames in a row that must see through a voxel before it is forgotten;
            0 never forgets.
        clear_margin_m: How far in front of the surface now seen a voxel must lie to be seen
            through. None takes 0.7 of a voxel: a whole one keeps the feet of things that went.
        clear_margin_per_m2: Added to the margin per square metre of depth. The default is three
            standard deviations of a Kinect's depth noise (Khoshelham and Elberink 2012, eq. 11:
            1.425e-3 z^2).
        projection_frames: Frames with features after which the reducing projection is fitted, if
            none was given.
        threads: Threads for fusion and queries; 0 takes the machine's cores, 4 at most.
    """

    voxel_size_m: float = 0.05
    feature_dim: int = 128
    min_depth_m: float = 0.1
    max_depth_m: float = 6.0
    weight_distance_m: float = 1.0
    edge_jump: float = 0.05
    max_weight: float = 0.0
    clear_after: int = 5
    clear_margin_m: float | None = None
    clear_margin_per_m2: float = 0.0043
    projection_frames: int = 8
    threads: int = 0

    def __post_init__(self) -> None:
        """Check every value and name the bad one.

        Raises:
            ValueError: A value is out of range or not a number.
        """
        for name in ('voxel_size_m', 'min_depth_m', 'max_depth_m', 'weight_distance_m'):
            self._require(name, lambda value: value > 0, 'a positive number')
        for name in ('edge_jump', 'max_weight', 'clear_margin_per_m2'):
            self._require(name, lambda value: value >= 0, 'zero or a positive number')
        if self.clear_margin_m is not None:
            self._require('clear_margin_m', lambda value: value >= 0, 'zero or positive, or None')
        for name in ('feature_dim', 'threads'):
            self._require(name, lambda value: value == int(value) >= 0, 'a whole number >= 0')
        self._require('clear_after', lambda value: 0 <= value <= 255, 'between 0 and 255')
        self._require('projection_frames', lambda value: value >= 1, 'at least 1')
        if self.max_depth_m <= self.min_depth_m:
            raise ValueError(
                f'max_depth_m = {self.max_depth_m} is not above min_depth_m = {self.min_depth_m}'
            )

    def margin_m(self) -> float:
        """The clearing margin at depth 0."""
        if self.clear_margin_m is None:
            return 0.7 * self.voxel_size_m
        return self.clear_margin_m

    def _require(self, name: str, holds: object, wanted: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and math.isfinite(value)
        if not (number and callable(holds) and holds(value)):
            raise ValueError(f'{name} = {value!r} must be {wanted}')
