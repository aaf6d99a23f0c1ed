"""A trained network's answer for one table: poses in pixels, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_nodes.clip.encoder import PRECISIONS
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import load_checkpoint
from vlm_nodes.cliport.confidence import best_pixels, probabilities
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.language import split_words
from vlm_nodes.cliport.matching import UNJUDGED, WordMatch, match_words
from vlm_nodes.cliport.model import CliportModel, Seen, margins, pad
from vlm_nodes.cliport.poses import PixelPose, wrapped
from vlm_nodes.cliport.samples import Scene

APART_PX: Final = 8
"""Candidates nearer to each other than this are one."""


@dataclass(frozen=True)
class Candidate:
    """A pick and a place for what is picked.

    Attributes:
        pick: Pixel and angle; z is left to `placing`.
        place: Pixel, and the angle relative to the pick's.
        pick_probability: Of the pick's cell.
        place_probability: Of the place's cell, given the pick.
    """

    pick: PixelPose
    place: PixelPose
    pick_probability: float
    place_probability: float

    @property
    def score(self) -> float:
        """Probability of both."""
        return self.pick_probability * self.place_probability


@dataclass(frozen=True, eq=False)
class Plan:
    """What a policy would do.

    Attributes:
        candidates: The most probable first; one at least.
        pick_map: (H, W) float32, probability of picking at each pixel, summing to 1.
        place_maps: (H, W) float32 of each candidate, of placing what its pick picks.
        match: Whether what the first candidate picks looks like what is looked for.
    """

    candidates: tuple[Candidate, ...]
    pick_map: NDArray[np.float32]
    place_maps: tuple[NDArray[np.float32], ...]
    match: WordMatch = UNJUDGED

    @property
    def best(self) -> Candidate:
        """The most probable candidate."""
        return self.candidates[0]

    @property
    def place_map(self) -> NDArray[np.float32]:
        """Of the first candidate."""
        return self.place_maps[0]


class CliportPolicy:
    """Plans picks and places; two identical calls give identical plans."""

    def __init__(self, model: CliportModel, device: str = 'cpu', precision: str = 'fp32') -> None:
        """Hold a model.

        Args:
            model: Trained.
            device: Of torch.
            precision: `fp32`, or autocast to `bf16` or `fp16`.

        Raises:
            ValueError: There is no such precision.
        """
        if precision not in PRECISIONS:
            raise ValueError(f'precision must be one of {tuple(PRECISIONS)}, got {precision!r}')
        self.model = model.to(device).eval()
        self._device = torch.device(device)
        self._type = PRECISIONS[precision]

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = 'cpu',
        precision: str = 'fp32',
        clip: FrozenClip | None = None,
        weights_dir: Path | None = None,
    ) -> CliportPolicy:
        """Load a checkpoint; see `load_checkpoint` for what is raised."""
        return cls(load_checkpoint(folder, clip, weights_dir), device, precision)

    @torch.inference_mode()
    def plan(
        self,
        heightmap: Heightmap,
        instruction: str,
        count: int = 1,
        *,
        before_place: Callable[[], None] = lambda: None,
    ) -> Plan:
        """Where to pick and where to place.

        Args:
            heightmap: Of the table.
            instruction: A sentence.
            count: Most candidates; each of them has a pick of its own.
            before_place: Called before the place of each candidate is looked for; what it raises
                ends the planning.

        Raises:
            ValueError: The sentence has no word, or count is below 1.
        """
        if count < 1:
            raise ValueError(f'count must be at least 1, got {count}')
        language = self.model.embed([instruction])
        scene = Scene.of([(heightmap.color, heightmap.height_m, heightmap.seen)]).to(self._device)
        shape = heightmap.seen.shape
        with torch.autocast(
            self._device.type, self._type or torch.float32, enabled=self._type is not None
        ):
            seen = self.model.look(scene, language)
            picks = probabilities(seen.pick_logits[0].cpu())
            found = []
            for index, chance in best_pixels(picks, count, self._apart):
                before_place()
                pick = self._pixel(picks, index, shape, np.pi)
                found.append(self._placed(seen, pick, index, chance, shape))
        found.sort(key=lambda each: -each[0].score)
        candidates, places = zip(*found, strict=True)
        match = self._match(scene, seen, instruction, candidates[0].pick)
        return Plan(candidates, self._pixel_map(picks, shape), places, match)

    @property
    def _apart(self) -> int:
        return max(1, APART_PX // self.model.config.output_stride)

    def _placed(
        self,
        seen: Seen,
        pick: PixelPose,
        index: tuple[int, ...],
        chance: float,
        shape: tuple[int, ...],
    ) -> tuple[Candidate, NDArray[np.float32]]:
        """The best place for a pick, and the map that it is the best of."""
        cells = torch.tensor([index[1:]], device=self._device)
        places = probabilities(self.model.place(seen, cells)[0].cpu())
        ((best, place_chance),) = best_pixels(places, 1, self._apart)
        place = self._pixel(places, best, shape, 2 * np.pi)
        return Candidate(pick, place, chance, place_chance), self._pixel_map(places, shape)

    def _match(self, scene: Scene, seen: Seen, instruction: str, pick: PixelPose) -> WordMatch:
        stride = self.model.config.output_stride
        top, left = (margins(side, stride)[0] for side in scene.shape)
        padded: Tensor = pad(scene, stride).seen[0]
        return match_words(
            seen.joint[0],
            padded,
            seen.language,
            seen.reading,
            split_words(instruction),
            (pick.row + top, pick.col + left),
        )

    def _pixel(
        self,
        chances: NDArray[np.float64],
        index: tuple[int, ...],
        shape: tuple[int, ...],
        period_rad: float,
    ) -> PixelPose:
        """The pixel in the middle of a cell and its neighbours, by their probability."""
        angle, row, col = index
        rows = np.arange(max(0, row - 1), min(chances.shape[1], row + 2))
        cols = np.arange(max(0, col - 1), min(chances.shape[2], col + 2))
        weight = chances[angle, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        middle = (
            weight.sum(axis=1) @ (rows + 0.5) / weight.sum(),
            weight.sum(axis=0) @ (cols + 0.5) / weight.sum(),
        )
        stride = self.model.config.output_stride
        row, col = (
            min(int(value * stride), side - 1) for value, side in zip(middle, shape, strict=True)
        )
        return PixelPose(row, col, float(wrapped(angle * period_rad / len(chances))))

    def _pixel_map(
        self, chances: NDArray[np.float64], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """(angles, h, w) of cells -> (H, W) of pixels, over all angles."""
        stride = self.model.config.output_stride
        pixels = chances.sum(axis=0).repeat(stride, axis=0).repeat(stride, axis=1)
        pixels = pixels[: shape[0], : shape[1]]
        return np.asarray(pixels / pixels.sum(), dtype=np.float32)
