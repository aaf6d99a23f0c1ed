"""Pictures of one moment with what is said of them, and sets of these. Pure code, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip_vlm.errors import ClipVlmError

READ: Final = 'read'
KEPT: Final = 'kept'
NO_CAPTION: Final = 'no caption'
NO_PICTURE: Final = 'no picture of the cameras asked for'
NO_FILE: Final = 'a picture file is missing'
BEYOND: Final = 'beyond --max-samples'


@dataclass(frozen=True)
class CaptionedViews:
    """What cameras saw at one moment, and what is said of it.

    Attributes:
        token: Name of the moment: nuScenes' sample token, or one like it.
        images: Picture by camera, in the set's order of cameras; those without one are absent.
        caption: What is said of the pictures; None where nothing is.
        source: Where the caption is from, such as 'captions.json' or 'gemini_caption'.

    Raises:
        ClipVlmError: There is no picture, or the caption is blank.
    """

    token: str
    images: Mapping[str, Path]
    caption: str | None
    source: str

    def __post_init__(self) -> None:
        """Refuse what cannot be learned from."""
        if not self.images:
            raise ClipVlmError(f'sample {self.token!r} has no picture')
        if self.caption is not None and not self.caption.strip():
            raise ClipVlmError(f'sample {self.token!r} has a blank caption: leave it out')


@dataclass(frozen=True)
class Tally:
    """What happens to samples while they are read.

    Attributes:
        skipped: How many were skipped, by reason.
        notes: What else was seen, and how often.
        max_samples: How many may be kept.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    max_samples: int | None = None

    def counts(self, kept: int) -> dict[str, int]:
        """How many were read, how many of them kept, and how many skipped by reason."""
        return {READ: kept + self.skipped.total(), KEPT: kept, **+self.skipped}

    def skips(self, sample: Mapping[str, Path], kept: int, *, require_files: bool) -> bool:
        """Whether pictures are not to be kept beside `kept` others, which is then counted."""
        reason = ''
        if not sample:
            reason = NO_PICTURE
        elif require_files and not all(path.is_file() for path in sample.values()):
            reason = NO_FILE
        elif self.max_samples is not None and kept >= self.max_samples:
            reason = BEYOND
        if reason:
            self.skipped[reason] += 1
        return bool(reason)


@dataclass(frozen=True)
class SampleSet(Sequence[CaptionedViews]):
    """Samples, and what became of all that were read.

    Attributes:
        samples: Those kept.
        cameras: In the order that pictures are given to the model; a sample may lack some.
        counts: 'read', 'kept', and by reason how many were skipped. They add up.
        notes: What else was counted on the way, such as captions made from parts.

    Raises:
        ClipVlmError: Counts do not add up, or a sample has a picture of another camera.
    """

    samples: tuple[CaptionedViews, ...]
    cameras: tuple[str, ...]
    counts: Mapping[str, int]
    notes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sets that contradict themselves."""
        skipped = sum(self.skipped.values())
        if self.counts.get(KEPT) != len(self) or self.counts.get(READ) != len(self) + skipped:
            raise ClipVlmError(f'{len(self)} samples are kept, but the counts are {self.counts}')
        for sample in self.samples:
            other = [name for name in sample.images if name not in self.cameras]
            if other:
                raise ClipVlmError(
                    f'sample {sample.token!r} has a picture of {", ".join(other)}; the cameras '
                    f'are {", ".join(self.cameras)}'
                )

    @classmethod
    def of(
        cls, samples: Sequence[CaptionedViews], cameras: Sequence[str], tally: Tally | None = None
    ) -> SampleSet:
        """A set of these samples, and of what a tally says of the others."""
        tally = tally or Tally()
        counts = tally.counts(len(samples))
        return cls(tuple(samples), tuple(cameras), counts, dict(+tally.notes))

    @property
    def skipped(self) -> dict[str, int]:
        """How many were skipped, by reason."""
        return {what: n for what, n in self.counts.items() if what not in (READ, KEPT)}

    def __len__(self) -> int:
        """How many samples were kept."""
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> CaptionedViews: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[CaptionedViews, ...]: ...

    def __getitem__(self, index: int | slice) -> CaptionedViews | tuple[CaptionedViews, ...]:
        """A sample, or several."""
        return self.samples[index]

    def __str__(self) -> str:
        """The counts in words, a line for each kind."""
        return counts_text(self.counts, self.notes)


def counts_text(counts: Mapping[str, int], notes: Mapping[str, int]) -> str:
    """What became of samples in words, a line for each kind."""
    lines = [f'{counts[READ]} samples read, {counts[KEPT]} kept']
    lines += [f'skipped, {what}: {n}' for what, n in counts.items() if what not in (READ, KEPT)]
    lines += [f'{what}: {n}' for what, n in notes.items()]
    return '\n'.join(lines)


def read_views(sample: CaptionedViews) -> dict[str, NDArray[np.uint8]]:
    """The pictures of a sample, (H, W, 3) uint8 RGB, by camera.

    Raises:
        ClipVlmError: A file is missing, is no picture, or is cut short.
    """
    return {camera: _read(path, sample.token) for camera, path in sample.images.items()}


def _read(path: Path, token: str) -> NDArray[np.uint8]:
    if not path.is_file():
        raise ClipVlmError(
            f'picture {path} of sample {token!r} is missing: copy it, or leave such samples out '
            'with --require-files'
        )
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ClipVlmError(f'{path} of sample {token!r} is not a picture, or is cut short')
    return np.ascontiguousarray(bgr[..., ::-1])
