"""nuScenes' keyframes with captions from elsewhere, by sample token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlm_nodes.clip_vlm.captions import CaptionTable
from vlm_nodes.clip_vlm.samples import (
    NO_CAPTION,
    NO_FILE,
    NO_PICTURE,
    CaptionedViews,
    SampleSet,
    Tally,
)
from vlm_nodes.surround import CAMERAS, NuScenes


def open_nuscenes(
    root: Path,
    captions: CaptionTable | None,
    *,
    version: str | None = None,
    cameras: Sequence[str] | None = None,
    captions_needed: bool = True,
    require_files: bool = False,
    max_samples: int | None = None,
) -> SampleSet:
    """Keyframes of a data set in nuScenes' layout, in time order, with their captions.

    Args:
        root: Folder of the data set.
        captions: Of its samples, if there are any.
        version: Folder of its tables, where there are several.
        cameras: Which, in order; None takes nuScenes' six.
        captions_needed: Skip keyframes without a caption.
        require_files: Skip keyframes with a missing picture.
        max_samples: Keep the first so many.

    Raises:
        SurroundError: The tables cannot be used, or have no such camera.
    """
    drives = NuScenes(
        root, version=version, cameras=cameras or CAMERAS, require_files=require_files
    )
    tally = Tally(max_samples=max_samples)
    tally.skipped[NO_PICTURE] += drives.left_out.without_rows
    tally.skipped[NO_FILE] += drives.left_out.without_files
    captions = captions or CaptionTable({}, {})
    samples: list[CaptionedViews] = []
    unused = set(captions.texts)
    for place in range(len(drives)):
        token, pictures = drives.pictures(place)
        unused.discard(token)
        text = captions.texts.get(token)
        if captions_needed and text is None:
            tally.skipped[NO_CAPTION] += 1
        elif not tally.skips(pictures, len(samples), require_files=False):
            samples.append(CaptionedViews(token, pictures, text, captions.source.get(token, '')))
    tally.notes['captions of samples that are not there'] = len(unused)
    tally.notes.update(captions.notes)
    tally.notes.update(captions.skipped)
    return SampleSet.of(samples, drives.cameras, tally)
