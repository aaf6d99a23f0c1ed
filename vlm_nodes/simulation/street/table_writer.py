"""Recorded keyframes as rows of nuScenes' tables."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.rigid import quaternion_from_matrix
from vlm_nodes.simulation.street.recorder import Recorded
from vlm_nodes.surround.keyframe import LIDAR

VERSION: Final = 'v1.0-street'

Row = dict[str, Any]


def token(*parts: object) -> str:
    """A name of 32 hexadecimal digits that follows from what it names."""
    return blake2b('/'.join(map(str, parts)).encode(), digest_size=16).hexdigest()


def scene_name(seed: int) -> str:
    """Of the street of a seed."""
    return f'scene-{seed:07d}'


def sample_token(seed: int, number: int) -> str:
    """Of a keyframe of the street of a seed."""
    return token('sample', seed, number)


def sensor_file(seed: int, channel: str, stamp_ns: int) -> str:
    """Where a picture or a sweep lies below the data set's folder."""
    end = 'pcd.bin' if channel == LIDAR else 'jpg'
    return f'samples/{channel}/street-{seed:07d}__{channel}__{stamp_ns // 1000}.{end}'


class TableWriter:
    """Collects rows scene by scene, then writes all tables."""

    def __init__(self) -> None:
        names = ('scene', 'sample', 'sample_data', 'calibrated_sensor', 'sensor', 'ego_pose', 'log')
        self._tables: dict[str, list[Row]] = {name: [] for name in names}
        self._log = token('log')
        self._tables['log'].append(
            {
                'token': self._log,
                'logfile': 'street',
                'vehicle': 'simulated',
                'date_captured': '',
                'location': 'street',
            }
        )

    def add(self, seed: int, number: int, count: int, recorded: Recorded) -> None:
        """Adds a keyframe of a scene of `count`; the first is 0."""
        if number == 0:
            self._add_scene(seed, count)
        tables, sample = self._tables, sample_token(seed, number)
        tables['sample'].append(
            {
                'token': sample,
                'timestamp': recorded.stamp_ns // 1000,
                'scene_token': token('scene', seed),
                **_links('sample', seed, number, count),
            }
        )
        for channel, view in recorded.views.items():
            size = (view.camera.width, view.camera.height)
            sensor = self._sensor(channel, view.ego_from_camera, view.camera.matrix().tolist())
            pose = self._pose(seed, number, channel, view.map_from_ego, view.stamp_ns)
            file = (sensor_file(seed, channel, view.stamp_ns), view.stamp_ns)
            self._add_data(seed, number, count, channel, sensor, pose, file, size)
        pose = self._pose(seed, number, LIDAR, recorded.map_from_ego, recorded.stamp_ns)
        sensor = self._sensor(LIDAR, recorded.sweep.ego_from_lidar, [])
        file = (sensor_file(seed, LIDAR, recorded.stamp_ns), recorded.stamp_ns)
        self._add_data(seed, number, count, LIDAR, sensor, pose, file, (0, 0))

    def write(self, folder: Path) -> None:
        """Writes every table to a new folder."""
        folder.mkdir(parents=True)
        for name, rows in self._tables.items():
            (folder / f'{name}.json').write_text(json.dumps(rows, indent=0) + '\n')

    def _add_scene(self, seed: int, count: int) -> None:
        self._tables['scene'].append(
            {
                'token': token('scene', seed),
                'name': scene_name(seed),
                'description': f'simulated street {seed}',
                'log_token': self._log,
                'nbr_samples': count,
                'first_sample_token': sample_token(seed, 0),
                'last_sample_token': sample_token(seed, count - 1),
            }
        )

    def _sensor(self, channel: str, mounting: NDArray[np.float64], intrinsic: list[Any]) -> str:
        """The calibration of a channel, the same in all scenes."""
        name, tables = token('calibrated_sensor', channel), self._tables
        if all(row['token'] != name for row in tables['calibrated_sensor']):
            modality = 'lidar' if channel == LIDAR else 'camera'
            sensor = token('sensor', channel)
            tables['sensor'].append({'token': sensor, 'channel': channel, 'modality': modality})
            tables['calibrated_sensor'].append(
                {
                    'token': name,
                    'sensor_token': sensor,
                    **_placed(mounting),
                    'camera_intrinsic': intrinsic,
                }
            )
        return name

    def _pose(
        self, seed: int, number: int, channel: str, pose: NDArray[np.float64], stamp_ns: int
    ) -> str:
        name = token('ego_pose', seed, number, channel)
        row = {'token': name, 'timestamp': stamp_ns // 1000, **_placed(pose)}
        self._tables['ego_pose'].append(row)
        return name

    def _add_data(
        self,
        seed: int,
        number: int,
        count: int,
        channel: str,
        sensor: str,
        pose: str,
        file: tuple[str, int],
        size: tuple[int, int],
    ) -> None:
        name, stamp_ns = file
        self._tables['sample_data'].append(
            {
                'token': token(f'sample_data/{channel}', seed, number),
                'sample_token': sample_token(seed, number),
                'ego_pose_token': pose,
                'calibrated_sensor_token': sensor,
                'timestamp': stamp_ns // 1000,
                'fileformat': 'pcd' if channel == LIDAR else 'jpg',
                'is_key_frame': True,
                'width': size[0],
                'height': size[1],
                'filename': name,
                **_links(f'sample_data/{channel}', seed, number, count),
            }
        )


def _links(what: str, seed: int, number: int, count: int) -> Row:
    return {
        'prev': token(what, seed, number - 1) if number else '',
        'next': token(what, seed, number + 1) if number + 1 < count else '',
    }


def _placed(pose: NDArray[np.float64]) -> Row:
    x, y, z, w = quaternion_from_matrix(pose).tolist()
    return {'translation': pose[:3, 3].tolist(), 'rotation': [w, x, y, z]}
