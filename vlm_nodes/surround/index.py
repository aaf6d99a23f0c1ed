"""What of the tables keyframes are made of, read once and kept on disk.

The tables of the whole of nuScenes take minutes to parse, what is needed of them a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bag_tools.whole_file import write_whole
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import LIDAR
from vlm_nodes.surround.tables import NAMES, Row, rows, table_path

_LOGGER = logging.getLogger(__name__)
_FORMAT: Final = 1
_FILE: Final = '.vlm_nodes_keyframes.json'
NONE: Final = -1
"""Place of a calibration or pose that the tables lack."""


@dataclass(frozen=True)
class Index:
    """The keyframes of a set of tables; plain lists, as JSON holds them.

    Attributes:
        scenes: [token, name] of each scene.
        samples: [token, stamp in microseconds, place of its scene], in time order within a scene.
        records: of each sample, by channel: [file name, calibration token, place of the
            calibration, pose token, place of the pose, stamp in microseconds, width, height].
        calibrations: [translation, rotation w x y z, intrinsic matrix or []].
        poses: [translation, rotation w x y z].
    """

    scenes: list[list[Any]]
    samples: list[list[Any]]
    records: list[dict[str, list[Any]]]
    calibrations: list[list[Any]]
    poses: list[list[Any]]


def load_index(folder: Path, cache: Path | None) -> Index:
    """The index of the tables in a folder: the kept one if the tables are as they were.

    Args:
        folder: Of the tables.
        cache: Folder to keep indices in; None keeps it beside the tables. Where nothing can be
            written the index is made each time, and that is said.

    Raises:
        SurroundError: A table is missing or broken.
    """
    stamp = _fingerprint(folder)
    path = _cache_path(folder, cache)
    kept = _kept(path, stamp)
    if kept is not None:
        return kept
    index = _read(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page = json.dumps({'stamp': stamp, 'index': asdict(index)})
        write_whole(path, page.encode())
    except OSError as error:
        _LOGGER.warning('the index of %s is not kept: %s; give a cache folder', folder, error)
    return index


def _fingerprint(folder: Path) -> list[Any]:
    stats = [table_path(folder, name).stat() for name in NAMES]
    return [_FORMAT, *([stat.st_size, stat.st_mtime_ns] for stat in stats)]


def _cache_path(folder: Path, cache: Path | None) -> Path:
    if cache is None:
        return folder / _FILE
    # One cache folder may hold the indices of several data sets.
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache / f'keyframes-{name}.json'


def _kept(path: Path, stamp: list[Any]) -> Index | None:
    try:
        content = json.loads(path.read_text())
        return Index(**content['index']) if content['stamp'] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path) -> Index:
    table = {name: table_path(folder, name) for name in NAMES}
    channels = {row['token']: str(row['channel']) for row in _rows(table['sensor'])}
    calibrations = _Places()
    channel_of: dict[str, str] = {}
    for row in _rows(table['calibrated_sensor']):
        place = [row['translation'], row['rotation'], row['camera_intrinsic']]
        calibrations.put(row['token'], place)
        channel_of[row['token']] = channels.get(row['sensor_token'], '')
    scenes = [[row['token'], row['name']] for row in _rows(table['scene'])]
    place_of_scene = {token: place for place, (token, _) in enumerate(scenes)}
    samples = _samples(table['sample'], place_of_scene)
    place_of_sample = {sample[0]: place for place, sample in enumerate(samples)}
    records: list[dict[str, list[Any]]] = [{} for _ in samples]
    wanted: set[str] = set()
    for row in _rows(table['sample_data']):
        place_in = place_of_sample.get(row['sample_token'])
        if not row['is_key_frame'] or place_in is None:
            continue
        sensor = row['calibrated_sensor_token']
        channel = channel_of.get(sensor) or channel_of_file(row['filename'])
        if channel == LIDAR or channel.startswith('CAM'):
            pose = row['ego_pose_token']
            wanted.add(pose)
            records[place_in][channel] = [
                row['filename'], sensor, calibrations.place(sensor), pose, NONE, row['timestamp'],
                row.get('width') or 0, row.get('height') or 0,
            ]  # fmt: skip
    poses = _Places()
    for row in _rows(table['ego_pose']):
        if row['token'] in wanted:
            poses.put(row['token'], [row['translation'], row['rotation']])
    for record in (record for sample in records for record in sample.values()):
        record[4] = poses.place(record[3])
    return Index(scenes, samples, records, calibrations.rows, poses.rows)


def _samples(path: Path, place_of_scene: dict[str, int]) -> list[list[Any]]:
    samples = []
    for row in _rows(path):
        place = place_of_scene.get(row['scene_token'])
        if place is None:
            raise SurroundError(
                f'{path}: sample {row["token"]!r} is of scene {row["scene_token"]!r}, '
                'which scene.json lacks'
            )
        samples.append([row['token'], row['timestamp'], place])
    return sorted(samples, key=lambda sample: (sample[2], sample[1], sample[0]))


def channel_of_file(name: str) -> str:
    """The folder that a sensor file lies in, which is its channel's name in nuScenes."""
    parts = re.split(r'[/\\]+', name)
    return parts[-2] if len(parts) > 1 else ''


_COLUMNS: Final = {
    'scene': ('token', 'name'),
    'sample': ('token', 'timestamp', 'scene_token'),
    'sample_data': (
        'sample_token', 'calibrated_sensor_token', 'ego_pose_token', 'filename', 'is_key_frame',
        'timestamp',
    ),
    'calibrated_sensor': ('token', 'sensor_token', 'translation', 'rotation', 'camera_intrinsic'),
    'sensor': ('token', 'channel'),
    'ego_pose': ('token', 'translation', 'rotation'),
}  # fmt: skip


def _rows(path: Path) -> Iterator[Row]:
    """Rows of a table that have the columns needed."""
    columns = _COLUMNS[path.stem]
    for count, row in enumerate(rows(path), start=1):
        missing = [name for name in columns if name not in row]
        if missing:
            raise SurroundError(f'{path}: row {count} has no {", ".join(missing)}')
        yield row


class _Places:
    """Rows by place, and the places of their tokens."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._place: dict[str, int] = {}

    def put(self, token: str, row: list[Any]) -> None:
        self._place[token] = len(self.rows)
        self.rows.append(row)

    def place(self, token: str) -> int:
        return self._place.get(token, NONE)
