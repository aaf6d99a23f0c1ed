"""A trained network that looks at one moment after the other and is asked about the last."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.checkpoint import load_checkpoint
from vlm_nodes.langocc.coverage import Coverage
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.predictor import THRESHOLD, Earlier, Predictor
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS, checked_prompts, read_prompts
from vlm_nodes.langocc.scene import (
    Found,
    PlanConfig,
    Voxels,
    find,
    occupied_voxels,
    seen_from_above,
)
from vlm_nodes.langocc.vocabulary import ClassTexts, TextVectors, in_volume
from vlm_nodes.surround import VoxelGrid

_KEPT_TABLES: Final = 8
_Look = tuple[Mapping[str, NDArray[np.uint8]], Mapping[str, RigView], NDArray[np.float64]]


@dataclass(frozen=True)
class ObserverConfig:
    """How a network looks.

    Attributes:
        checkpoint: Folder of `train_langocc`.
        device: Where it runs.
        grid: Voxels that are wanted; None takes the network's own.
        cameras: Of the network's, those that there are; empty takes all.
        threshold: Opacity from which a voxel is occupied.
        prompts: JSON file of prompts by class; None takes those of Occ3D.
        classes: Only these are told apart; empty takes all of the prompts'.
        plan: What stands in the way.
        weights_dir: Folder of fetched weights of CLIP.

    Raises:
        LangOccError: The threshold is not between 0 and 1.
    """

    checkpoint: Path
    device: str = 'cpu'
    grid: VoxelGrid | None = None
    cameras: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    prompts: Path | None = None
    classes: tuple[str, ...] = ()
    plan: PlanConfig = field(default_factory=PlanConfig)
    weights_dir: Path | None = None

    def __post_init__(self) -> None:
        """Check the threshold."""
        if not 0 < self.threshold < 1:
            raise LangOccError(f'threshold must be between 0 and 1, is {self.threshold}')


@dataclass(frozen=True)
class Moment:
    """What there is about the vehicle.

    Attributes:
        voxels: That are occupied.
        cells: (Y, X) int8 seen from above; see `scene.seen_from_above`.
        cameras: Whose pictures were used.
    """

    voxels: Voxels
    cells: NDArray[np.int8]
    cameras: tuple[str, ...]


class Observer:
    """A network and the words for what it sees. `look` from one thread, `find` from any.

    Attributes:
        cameras: That it looks through, in its order.
        grid: Its voxels.

    Args:
        config: How.

    Raises:
        LangOccError: The checkpoint cannot be used, or a camera or class is not known.
        WeightsError: Its CLIP, which reads texts, cannot be loaded.
        ValueError: No layer of the grid lies between the plan's heights.
    """

    def __init__(self, config: ObserverConfig) -> None:
        self._config = config
        checkpoint = load_checkpoint(config.checkpoint, config.grid)
        try:
            self._predictor = Predictor(checkpoint, config.device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter
            reason = ' '.join(str(error).split())[:200]
            raise LangOccError(f'cannot run on device {config.device!r}: {reason}') from error
        # A rig that moves within a moment has a table a moment, of many megabytes.
        self._predictor.model.tables.keep = _KEPT_TABLES
        own = self._predictor.config
        if unknown := [name for name in config.cameras if name not in own.cameras]:
            raise LangOccError(
                f'{config.checkpoint} knows no camera {", ".join(unknown)}; its cameras are '
                f'{", ".join(own.cameras)}'
            )
        self.cameras = tuple(n for n in own.cameras if not config.cameras or n in config.cameras)
        self.grid = own.grid
        config.plan.layers(self.grid)
        cache = config.checkpoint / 'texts'
        writable = os.access(cache if cache.is_dir() else config.checkpoint, os.W_OK)
        self._encode = TextVectors(
            checkpoint.space, cache if writable else None, config.weights_dir
        )
        # One encoder, asked from several threads.
        self._reading = threading.Lock()
        self._texts = ClassTexts.of(checkpoint, self._encode, _prompts(config))
        self._coverage = Coverage(self.grid)
        self._last: _Look | None = None

    def forget(self) -> None:
        """Time began anew: the last look is none that could be fused."""
        self._last = None

    def look(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        views: Mapping[str, RigView],
        fixed_from_ego: NDArray[np.float64] | None = None,
    ) -> Moment:
        """What there is about the vehicle.

        Args:
            images: (H, W, 3) uint8 RGB by camera.
            views: Their calibration.
            fixed_from_ego: (4, 4) where the vehicle is in a frame that does not move; networks that
                fuse an earlier moment then take that of the last look.

        Raises:
            LangOccError: As of `Predictor.predict`.
        """
        earlier, last = None, self._last
        if last is not None and fixed_from_ego is not None:
            earlier = Earlier(last[0], last[1], invert(last[2]) @ fixed_from_ego)
        prediction = self._predictor.predict(images, views, earlier)
        self._last = None
        if fixed_from_ego is not None and self._predictor.config.previous:
            self._last = (images, views, fixed_from_ego)
        seen = self._coverage.of([views[n] if n in images else None for n in self.cameras])
        return Moment(
            occupied_voxels(prediction, self._texts, self._config.threshold),
            seen_from_above(prediction, self._texts, seen, self._config.plan),
            tuple(name for name in self.cameras if name in images),
        )

    def find(self, moment: Moment, texts: Sequence[str], threshold: float) -> Found:
        """Where texts are in a moment.

        Raises:
            LangOccError: There is no text, an empty one, or nothing is occupied.
        """
        if not texts or any(not text.strip() for text in texts):
            raise LangOccError(f'texts {list(texts)}: give at least one, and none that is empty')
        if not len(moment.voxels):
            raise LangOccError('no voxel is occupied: there is nothing to look for the texts in')
        with self._reading:
            vectors = in_volume(self._predictor.checkpoint, self._encode, texts)
        return find(moment.voxels, vectors, threshold)

    def tables_made(self) -> int:
        """How often lift indices were computed: once a calibration."""
        return self._predictor.model.tables.made


def _prompts(config: ObserverConfig) -> dict[str, tuple[str, ...]]:
    prompts = dict(OCC3D_PROMPTS) if config.prompts is None else read_prompts(config.prompts)
    if unknown := sorted(set(config.classes) - set(prompts)):
        raise LangOccError(f'no prompts for classes {", ".join(unknown)}')
    chosen = {n: p for n, p in prompts.items() if not config.classes or n in config.classes}
    return checked_prompts(chosen, str(config.prompts or 'prompts'))
