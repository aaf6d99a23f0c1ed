"""Recorded streets on disk, in the layout of nuScenes and of Occ3D.

OUT/v1.0-street/*.json       tables
OUT/samples/CHANNEL/*        pictures (.jpg) and LiDAR sweeps (.pcd.bin)
OUT/truth/CHANNEL/*.npz      depth, class and thing of each pixel; class of each point
OUT/gts/SCENE/TOKEN/labels.npz   occupancy
OUT/captions.json            sample token -> text
OUT/view_captions.json       sample token -> camera -> text
OUT/objects.json             sample token -> camera -> what it sees, the largest first
OUT/street.json              how the streets were made
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bag_tools.whole_folder import whole_folder
from vlm_nodes.simulation.street.captions import describe_scene, describe_view, sightings
from vlm_nodes.simulation.street.recorder import Recorded, Recorder, Scene, Settings, make_scene
from vlm_nodes.simulation.street.table_writer import (
    VERSION,
    TableWriter,
    sample_token,
    scene_name,
    sensor_file,
)
from vlm_nodes.simulation.street.truth_files import truth_path
from vlm_nodes.simulation.street.vocabulary import CLASS_NAMES
from vlm_nodes.surround.keyframe import LIDAR
from vlm_nodes.surround.occupancy import occupancy_path, write_occupancy

HOLDS: Final = (
    VERSION, 'samples', 'truth', 'gts', 'captions.json', 'view_captions.json', 'objects.json',
    'street.json',
)  # fmt: skip
# Colours at full resolution: at half, as is usual, those of small things fade into the road's.
_JPEG: Final = (
    cv2.IMWRITE_JPEG_QUALITY, 95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Which scenes are recorded, and how.

    Attributes:
        seeds: of the scenes.
        settings: of the recording.
        lidar: whether sweeps are written.
        truth: whether depth, class and thing of each pixel are written.
    """

    seeds: range
    settings: Settings
    lidar: bool = True
    truth: bool = True

    def steps(self) -> list[tuple[int, int]]:
        """Seed and number of every keyframe, in order."""
        return [(seed, i) for seed in self.seeds for i in range(self.settings.keyframes)]


def write_streets(
    out: Path,
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Iterable[tuple[int, int]] | None = None,
) -> None:
    """Records scenes to a new folder, which appears when it is whole.

    Args:
        out: the folder.
        plan: what is recorded.
        overwrite: replace such a folder that is there.
        progress: `plan.steps()`, wrapped to show how far it is.

    Raises:
        FileExistsError: the folder is there and is not to be replaced, or holds other things.
        RenderingUnavailableError: GL cannot start.
    """
    with (
        whole_folder(out, overwrite=overwrite, holds=HOLDS) as folder,
        Recorder(plan.settings) as recorder,
    ):
        writer = _Writer(folder, plan)
        scene: Scene | None = None
        for seed, number in progress if progress is not None else plan.steps():
            if scene is None or scene.street.seed != seed:
                scene = make_scene(seed, plan.settings)
            writer.add(scene, number, recorder.keyframe(scene, number))
        writer.finish()


class _Writer:
    """Writes keyframes as they come, and what belongs to all of them at the end."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._tables = TableWriter()
        self._captions: dict[str, str] = {}
        self._views: dict[str, dict[str, str]] = {}
        self._objects: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def add(self, scene: Scene, number: int, recorded: Recorded) -> None:
        seed, sample = scene.street.seed, sample_token(scene.street.seed, number)
        self._tables.add(seed, number, self._plan.settings.keyframes, recorded)
        for channel, view in recorded.views.items():
            path = self._path(sensor_file(seed, channel, view.stamp_ns))
            if not cv2.imwrite(str(path), view.rgb[..., ::-1], _JPEG):
                raise OSError(f'could not write {path}')
            if self._plan.truth:
                arrays = {name: getattr(view, name) for name in ('depth_m', 'semantics', 'things')}
                np.savez_compressed(_made(truth_path(path)), **arrays)
        if self._plan.lidar:
            path = self._path(sensor_file(seed, LIDAR, recorded.stamp_ns))
            recorded.sweep.points.tofile(path)
            np.savez_compressed(_made(truth_path(path)), semantics=recorded.sweep.semantics)
        labels = occupancy_path(self._folder, scene_name(seed), sample)
        write_occupancy(_made(labels), recorded.occupancy)
        self._describe(scene, sample, recorded)

    def _describe(self, scene: Scene, sample: str, recorded: Recorded) -> None:
        things = scene.street.things
        seen = {name: sightings(view.things, things) for name, view in recorded.views.items()}
        self._captions[sample] = describe_scene(seen)
        self._views[sample] = {name: describe_view(found) for name, found in seen.items()}
        self._objects[sample] = {
            name: [
                {'colour': s.thing.colour, 'kind': s.thing.kind, 'share': round(s.share, 5)}
                for s in found
            ]
            for name, found in seen.items()
        }

    def _path(self, name: str) -> Path:
        return _made(self._folder / name)

    def finish(self) -> None:
        self._tables.write(self._folder / VERSION)
        plan = self._plan
        how = {
            'seeds': [plan.seeds.start, plan.seeds.stop],
            'settings': asdict(plan.settings),
            'classes': CLASS_NAMES,
        }
        for name, content in (
            ('captions', self._captions),
            ('view_captions', self._views),
            ('objects', self._objects),
            ('street', how),
        ):
            (self._folder / f'{name}.json').write_text(json.dumps(content, indent=1) + '\n')


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
