"""Episodes on disk: one zip file each, of pictures and a page of JSON that any program can read.

    episode.json        task, mode, seed, workspace, cameras, provenance, and of every step the
                        instruction, the poses of pick and place, and the reward
    color/000.png       the fused colour before step 0 (RGB), ...
    height/000.png      its height: 16 bit, 0 where nothing was seen, otherwise
                        1 + (z - lower z of the workspace) in units of 0.1 mm

There is one picture more than there are steps: what the table looked like at the end.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.whole_file import write_whole
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import is_rigid, matrix_from_quaternion, quaternion_from_matrix

Matrix = NDArray[np.float64]

FORMAT: Final = 'cliport episode'
VERSION: Final = 1
SUFFIX: Final = '.zip'
HEIGHT_UNIT_M: Final = 1e-4
_PAGE: Final = 'episode.json'
# The same content gives the same bytes: no time of writing.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_PNG: Final = [cv2.IMWRITE_PNG_COMPRESSION, 6]


class EpisodeError(ValueError):
    """A file is not a whole episode; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Step:
    """One action and what came before and after it.

    Attributes:
        heightmap: what was seen before.
        instruction: what was asked for.
        pick: (4, 4) table_from_tool.
        place: (4, 4) table_from_tool.
        reward: what it gained.
    """

    heightmap: Heightmap
    instruction: str
    pick: Matrix
    place: Matrix
    reward: float

    def __post_init__(self) -> None:
        """Check the poses and the sentence."""
        for name in ('pick', 'place'):
            if not is_rigid(getattr(self, name)):
                raise ValueError(f'{name} is not a rigid (4, 4) pose:\n{getattr(self, name)}')
        if not self.instruction.strip():
            raise ValueError('a step needs an instruction, this one is empty')


@dataclass(frozen=True, eq=False)
class Calibration:
    """A camera that the heightmaps were fused from.

    Attributes:
        name: of the camera.
        camera: its intrinsics.
        table_from_camera: (4, 4), optical frame to table frame.
    """

    name: str
    camera: Camera
    table_from_camera: Matrix


@dataclass(frozen=True, eq=False)
class Episode:
    """One demonstration.

    Attributes:
        task: full name of the task.
        mode: 'train', 'val' or 'test'.
        seed: of the table; None where there is none, as of a real one.
        steps: one at least.
        final: what was seen after the last step.
        cameras: that the heightmaps come from.
        provenance: what made it: names and versions.

    Raises:
        ValueError: if there is no step, or heightmaps are of different workspaces.
    """

    task: str
    mode: str
    seed: int | None
    steps: tuple[Step, ...]
    final: Heightmap
    cameras: tuple[Calibration, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all steps are of one table."""
        if not self.steps:
            raise ValueError(f'an episode of {self.task!r} without steps')
        for number, step in enumerate(self.steps):
            if step.heightmap.workspace != self.workspace:
                raise ValueError(
                    f'step {number} is of {step.heightmap.workspace}, the end of {self.workspace}'
                )

    @property
    def workspace(self) -> Workspace:
        """What all heightmaps cover."""
        return self.final.workspace

    @property
    def total_reward(self) -> float:
        """Sum over the steps; 1 of a task that was done."""
        return float(sum(step.reward for step in self.steps))

    def to_bytes(self) -> bytes:
        """The file's content; equal episodes give equal bytes."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, 'w') as archive:
            page = json.dumps(_page(self), indent=1, ensure_ascii=False) + '\n'
            _put(archive, _PAGE, page.encode(), zipfile.ZIP_DEFLATED)
            for number, seen in enumerate([*(step.heightmap for step in self.steps), self.final]):
                _put(archive, _color_name(number), _png(seen.color[..., ::-1]))
                _put(archive, _height_name(number), _png(_height_code(seen)))
        return stream.getvalue()

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: the folder is missing, full or read-only.
        """
        write_whole(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, content: bytes, where: str = 'episode') -> Episode:
        """Read a file's content.

        Args:
            content: of the file.
            where: what errors call it.

        Raises:
            EpisodeError: it is cut short, damaged, or something else.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return _episode(archive)
        except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
            # RuntimeError: a flipped bit in a header asks for a password or an unknown method.
            raise EpisodeError(
                f'{where} is cut short or damaged ({error}): delete it and record it again'
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error).strip('\'"')
            raise EpisodeError(f'{where} is not an episode: {reason}') from error

    @classmethod
    def load(cls, path: Path) -> Episode:
        """Read a file.

        Raises:
            EpisodeError: it is cut short, damaged, or something else.
            OSError: it cannot be read.
        """
        return cls.from_bytes(path.read_bytes(), str(path))


def episode_files(folder: Path) -> list[Path]:
    """The episodes in a folder, in order of their names.

    Raises:
        FileNotFoundError: there is no such folder, or no episode in it.
    """
    files = sorted(path for path in folder.glob(f'*{SUFFIX}') if not path.name.startswith('.'))
    if not files:
        raise FileNotFoundError(
            f'no episodes (*{SUFFIX}) in {folder}: record some with cliport_demos or bag2cliport'
        )
    return files


def _put(
    archive: zipfile.ZipFile, name: str, content: bytes, method: int = zipfile.ZIP_STORED
) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    archive.writestr(entry, content)


def _color_name(number: int) -> str:
    return f'color/{number:03d}.png'


def _height_name(number: int) -> str:
    return f'height/{number:03d}.png'


def _png(image: NDArray[Any]) -> bytes:
    done, content = cv2.imencode('.png', image, _PNG)
    assert done
    return bytes(content)


def _height_code(seen: Heightmap) -> NDArray[np.uint16]:
    units = (seen.height_m.astype(np.float64) - seen.workspace.z_range_m[0]) / HEIGHT_UNIT_M
    code = np.clip(np.rint(units) + 1, 1, np.iinfo(np.uint16).max)
    return np.where(seen.seen, code, 0).astype(np.uint16)


def _heightmap(archive: zipfile.ZipFile, number: int, workspace: Workspace) -> Heightmap:
    color = _image(archive, _color_name(number))
    code = _image(archive, _height_name(number))
    seen = code > 0
    height_m = workspace.z_range_m[0] + (code.astype(np.float64) - 1) * HEIGHT_UNIT_M
    return Heightmap(
        np.ascontiguousarray(color[..., ::-1]),
        np.where(seen, height_m, 0.0).astype(np.float32),
        seen,
        workspace,
    )


def _image(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f'{name} is not a picture')
    return np.asarray(image)


def _page(episode: Episode) -> dict[str, Any]:
    return {
        'format': FORMAT,
        'version': VERSION,
        'task': episode.task,
        'mode': episode.mode,
        'seed': episode.seed,
        'workspace': asdict(episode.workspace),
        'cameras': [
            {
                'name': each.name,
                **asdict(each.camera),
                'table_from_camera': _pose_page(each.table_from_camera),
            }
            for each in episode.cameras
        ],
        'provenance': dict(episode.provenance),
        'steps': [
            {
                'instruction': step.instruction,
                'pick': _pose_page(step.pick),
                'place': _pose_page(step.place),
                'reward': step.reward,
            }
            for step in episode.steps
        ],
    }


def _pose_page(pose: Matrix) -> dict[str, list[float]]:
    return {
        'position_m': [float(value) for value in pose[:3, 3]],
        'quaternion_xyzw': [float(value) for value in quaternion_from_matrix(pose)],
    }


def _pose(page: Mapping[str, Any]) -> Matrix:
    return matrix_from_quaternion(page['quaternion_xyzw'], page['position_m'])


def _episode(archive: zipfile.ZipFile) -> Episode:
    page = json.loads(archive.read(_PAGE))
    if not isinstance(page, dict) or page.get('format') != FORMAT:
        raise ValueError(f'its {_PAGE} does not say that its format is {FORMAT!r}')
    if page['version'] != VERSION:
        raise ValueError(f'its version is {page["version"]}, this program reads {VERSION}')
    workspace = Workspace(**{name: _tupled(value) for name, value in page['workspace'].items()})
    steps = tuple(
        Step(
            _heightmap(archive, number, workspace),
            step['instruction'],
            _pose(step['pick']),
            _pose(step['place']),
            float(step['reward']),
        )
        for number, step in enumerate(page['steps'])
    )
    return Episode(
        page['task'],
        page['mode'],
        page['seed'],
        steps,
        _heightmap(archive, len(steps), workspace),
        tuple(_calibration(each) for each in page['cameras']),
        page['provenance'],
    )


def _calibration(page: Mapping[str, Any]) -> Calibration:
    intrinsics = {
        name: _tupled(value)
        for name, value in page.items()
        if name not in ('name', 'table_from_camera')
    }
    return Calibration(page['name'], Camera(**intrinsics), _pose(page['table_from_camera']))


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
