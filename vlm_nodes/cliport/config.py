"""Sizes of the network: what is published, and a small one for a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

LOWEST_STRIDE = 16
"""The spatial stream narrows to a sixteenth of the picture."""

LANGUAGE_FUSIONS = ('mult', 'film')
SHARINGS = ('all', 'place', 'none')
QUERY_FORMS = ('crop', 'rotate')


@dataclass(frozen=True)
class ModelConfig:
    """What a `CliportModel` is made of; the defaults are the full size.

    Attributes:
        rotations: Angles a placing is tried at, evenly over a turn.
        pick_angles: Angles a picking is tried at, evenly over half a turn, after which a parallel
            gripper is the same; 1 for suction, which has none.
        crop_px: Side in pixels of what is looked for around the pick.
        output_stride: Side in pixels of a cell of the answers' maps: 1, 2 or 4.
        spatial_widths: Channels of the spatial stream at strides `output_stride` to 16.
        semantic_widths: Channels of the semantic stream from the backbone's coarsest level down
            to `output_stride`, halving the stride each time.
        norm_groups: Of group normalisation; 0 for none. It keeps no statistics.
        language_fusion: `mult` (features times words) or `film` (scale and shift).
        language_width: Channels in which sentences are read.
        phrases: Different phrases that are looked for in a sentence and then in the picture.
        place_channels: Of the key and query maps that are correlated.
        place_map: Whether a dense map is added to the correlation, alike for all angles.
        sharing: One pair of streams for `all` of pick, key and query, for the two of `place`, or
            for `none` (three pairs, as published).
        query_form: `crop`: rotated crops of the picture pass the network (published); `rotate`:
            the network's features are rotated after one pass (equivariant, and cheaper).
        colour_mean: Mean of RGB in [0, 1] that the spatial stream expects.
        colour_std: Standard deviation of it.
        height_scale_m: Height that counts as one.
        words: Words of the training, to which a meaning of their own is learned beside CLIP's.

    Raises:
        ValueError: A value is out of its range; the message holds it.
    """

    rotations: int = 36
    pick_angles: int = 1
    crop_px: int = 64
    output_stride: int = 1
    spatial_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    semantic_widths: tuple[int, ...] = (1024, 512, 256, 128, 64, 32)
    norm_groups: int = 8
    language_fusion: str = 'mult'
    language_width: int = 128
    phrases: int = 4
    place_channels: int = 3
    place_map: bool = False
    sharing: str = 'all'
    query_form: str = 'rotate'
    colour_mean: float = 0.19
    colour_std: float = 0.07
    height_scale_m: float = 0.01
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ('rotations', 'pick_angles', 'language_width', 'phrases', 'place_channels'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        for name, choices in (
            ('language_fusion', LANGUAGE_FUSIONS),
            ('sharing', SHARINGS),
            ('query_form', QUERY_FORMS),
            ('output_stride', (1, 2, 4)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {getattr(self, name)!r}')
        for name in ('spatial_widths', 'semantic_widths', 'words'):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ('colour_std', 'height_scale_m'):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        self._check_widths()

    def _check_widths(self) -> None:
        if self.crop_px < 2 * self.output_stride or self.crop_px % (2 * LOWEST_STRIDE):
            raise ValueError(
                f'crop_px must be a multiple of {2 * LOWEST_STRIDE}, got {self.crop_px}'
            )
        stages = 1 + round(math.log2(LOWEST_STRIDE / self.output_stride))
        if len(self.spatial_widths) != stages:
            raise ValueError(
                f'spatial_widths needs {stages} numbers for output_stride {self.output_stride}, '
                f'got {self.spatial_widths}'
            )
        if len(self.semantic_widths) != stages + 1:
            raise ValueError(
                f'semantic_widths needs {stages + 1} numbers for output_stride '
                f'{self.output_stride}, got {self.semantic_widths}'
            )
        for width in (*self.spatial_widths, *self.semantic_widths):
            if width < 1 or (self.norm_groups and width % self.norm_groups):
                raise ValueError(
                    f'widths must be positive multiples of norm_groups = {self.norm_groups}, '
                    f'got {width}'
                )
        if self.norm_groups < 0:
            raise ValueError(f'norm_groups must not be negative, got {self.norm_groups}')
        if len(set(self.words)) != len(self.words):
            raise ValueError('words must not repeat')

    @property
    def crop_cells(self) -> int:
        """Side of the query in cells of the answers' maps."""
        return self.crop_px // self.output_stride

    @classmethod
    def small(cls, **changes: Any) -> ModelConfig:
        """A size that learns within minutes on two CPU cores, with the CLIP `tiny`.

        Args:
            **changes: Attributes that are to differ.
        """
        sizes: dict[str, Any] = {
            'output_stride': 2,
            'spatial_widths': (16, 32, 64, 96),
            'semantic_widths': (96, 64, 48, 32, 24),
            'language_width': 32,
            'place_channels': 4,
            'place_map': True,
            'colour_mean': 0.23,
            'colour_std': 0.15,
            'height_scale_m': 0.03,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The configuration of a checkpoint's JSON.

        Raises:
            ValueError: There is a name that no attribute has, or a bad value.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f'unknown settings of the model: {", ".join(unknown)}')
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f'settings of the model have the wrong type: {error}') from error
