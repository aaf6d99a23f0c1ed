"""Films and pictures of a policy at work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.whole_file import write_whole
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.pictures import (
    Image,
    action_picture,
    affordance_picture,
    scene_picture,
    titled,
)

if TYPE_CHECKING:
    from vlm_nodes.cliport.rollouts import Action, EpisodeResult
    from vlm_nodes.simulation.tabletop.tabletop import Tabletop

RATE_HZ: Final = 25
_SLOW: Final = 2
"""Times as fast as it would be in reality."""
_HOLD_S: Final = 1.0
_CAMERA: Final = 'front'


class Film:
    """An MP4 of an episode: the front camera beside what the policy saw and answered.

    Simulated time goes by twice as fast; what was planned is shown for a second.
    """

    def __init__(self, path: Path) -> None:
        """Write to `path`, under another name until it is whole.

        Raises:
            OSError: This build of OpenCV has no encoder.
        """
        self._path, self._part = path, path.with_name(f'.{path.stem}.part.mp4')
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer: cv2.VideoWriter | None = None
        self._panel: Image | None = None
        self._title = ''

    def begin(self, table: Tabletop) -> None:
        """Film whatever moves on the table from now on."""
        from vlm_nodes.simulation.tabletop.world import STEP_S

        self._table, self._count = table, 0
        self._every = round(_SLOW / (RATE_HZ * STEP_S))
        table.world.after_step = self._on_step

    def planned(self, action: Action) -> None:
        """Show what the policy answered."""
        best = action.plan.best
        self._title = action.instruction
        self._panel = action_picture(action.heightmap, best.pick, best.place)
        self._add(round(RATE_HZ * _HOLD_S))

    def done(self, action: Action) -> None:
        """Show what came of it."""
        self._title = f'{action.instruction}: {action.reward:+.2f}'
        self._add(round(RATE_HZ * _HOLD_S / 2))

    def end(self, result: EpisodeResult) -> None:
        """Write the file."""
        self._table.world.after_step = None
        self._title = f'{"done" if result.success else "not done"}, reward {result.reward:.2f}'
        if self._panel is None:
            return
        self._add(RATE_HZ)
        assert self._writer is not None
        self._writer.release()
        self._part.replace(self._path)

    def _on_step(self) -> None:
        self._count += 1
        if self._count % self._every == 0:
            self._add(1)

    def _add(self, count: int) -> None:
        if self._panel is None:
            return
        view = next(each.rgb for each in self._table.observe() if each.name == _CAMERA)
        frame = titled(_beside(view, self._panel), self._title)
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._writer is None:
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._part), fourcc, RATE_HZ, (width, height))
            if not self._writer.isOpened():
                raise OSError(f'OpenCV cannot write {self._path}: it has no MPEG-4 encoder')
        bgr = cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR)
        for _ in range(count):
            self._writer.write(bgr)


class PictureBook:
    """PNG files of every action: the table, both affordances, and what was done."""

    def __init__(self, folder: Path) -> None:
        """Write to `folder`."""
        self._folder, self._count = folder, 0

    def begin(self, table: Tabletop) -> None:
        """Name the files by the seed."""
        self._name = f'{table.seed:06d}'
        self._folder.mkdir(parents=True, exist_ok=True)

    def planned(self, action: Action) -> None:
        """Nothing yet."""

    def done(self, action: Action) -> None:
        """Write one."""
        image = plan_picture(action)
        write_png(self._folder / f'{self._name}-{self._count}.png', image)
        self._count += 1

    def end(self, result: EpisodeResult) -> None:
        """Nothing more."""


def plan_picture(action: Action, scale: int = 2) -> Image:
    """Affordances of pick and place, and the action, one below the other."""
    best, seen = action.plan.best, action.heightmap
    panels = [
        titled(
            action_picture(seen, best.pick, best.place, scale=scale),
            f'{action.instruction}   reward {action.reward:+.2f}',
        )
    ]
    for name, chance, found in (
        ('pick', best.pick_probability, action.plan.pick_map),
        ('place', best.place_probability, action.plan.place_map),
    ):
        title = f'{name}: {chance:.3f} at its best pixel'
        panels.append(titled(affordance_picture(seen, found, scale), title))
    return np.concatenate(panels)


def final_picture(heightmap: Heightmap, title: str, scale: int = 2) -> Image:
    """The table, under a title."""
    return titled(scene_picture(heightmap, scale), title)


def write_png(path: Path, image: Image) -> None:
    """Write an RGB image, whole or not at all."""
    done, content = cv2.imencode('.png', image[..., ::-1])
    assert done
    write_whole(path, bytes(content))


def _beside(view: NDArray[np.uint8], panel: Image) -> Image:
    """A camera's image and a panel of the same height."""
    width = round(panel.shape[1] * view.shape[0] / panel.shape[0])
    scaled = cv2.resize(panel, (width, view.shape[0]), interpolation=cv2.INTER_AREA)
    return np.concatenate([view, np.asarray(scaled, dtype=np.uint8)], axis=1)
