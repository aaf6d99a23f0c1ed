"""`surround_player_node`: a recorded drive in nuScenes' layout on the topics of its cameras."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rclpy.node import Node

from vlm_nodes.node import Parameter, StartError, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import Keyframe
from vlm_nodes.surround.keyframe_file import read_keyframe_file
from vlm_nodes.surround.nuscenes import NuScenes
from vlm_nodes.surround.player.player import PLAYER_PARAMETERS, Player
from vlm_nodes.surround.player.shots import DriveMoment, read_moments

PARAMETERS: Final = (
    Parameter(
        'data',
        '',
        "Folder in nuScenes' layout, such as make_street writes, or a keyframe's .json file. Has "
        'no default: name one.',
    ),
    Parameter('version', '', "The tables' folder, such as v1.0-mini; empty where there is one."),
    Parameter('scenes', [''], 'Names of drives to play; empty: all.'),
    Parameter('require_files', False, 'Leave out keyframes of which a picture is missing.'),
    Parameter('max_samples', 0, 'Play the first so many keyframes; 0: all.', 0, 10_000_000),
    Parameter('loop', False, 'Begin anew after the last keyframe.'),
    *PLAYER_PARAMETERS,
)


class SurroundPlayerNode(Node):
    """Plays keyframes; see `Player` for the topics."""

    def __init__(self, **options: Any) -> None:
        """Declare, open, wait for listeners.

        Args:
            options: For rclpy's Node, such as its context and parameter overrides.

        Raises:
            StartError: A parameter is wrong, or what it names cannot be played.
        """
        super().__init__('surround_player_node', **options)
        values = declare_parameters(self, PARAMETERS)
        if not values['data']:
            raise StartError("parameter data is empty: name a folder in nuScenes' layout")
        try:
            keyframes = open_keyframes(values)
        except SurroundError as error:
            raise StartError(str(error)) from error
        self.player = Player(self, values['cameras'], self._moments(keyframes), values)
        self.get_logger().info(
            f'{len(keyframes)} keyframes of {values["data"]}, '
            f'{len(values["cameras"])} camera(s): waiting for listeners'
        )

    def _moments(self, keyframes: Sequence[Keyframe]) -> Iterator[DriveMoment]:
        loop = self.get_parameter('loop').value
        rounds: Iterable[int] = itertools.count() if loop else range(1)
        for _ in rounds:
            yield from read_moments(iter(keyframes), self.get_logger().warning)


def open_keyframes(values: dict[str, Any]) -> Sequence[Keyframe]:
    """The keyframes that parameters name.

    Raises:
        SurroundError: They cannot be read; the text says why.
    """
    path = Path(values['data']).expanduser()
    if path.suffix != '.json':
        return NuScenes(
            path,
            version=values['version'] or None,
            cameras=tuple(values['cameras']),
            scenes=values['scenes'] or None,
            require_files=values['require_files'],
            max_samples=values['max_samples'] or None,
        )
    keyframe, _ = read_keyframe_file(path)
    wrong = [name for name in values['cameras'] if name not in keyframe.cameras]
    if wrong or not values['cameras']:
        raise SurroundError(
            f'{path} has no {", ".join(wrong) or "cameras that are asked for"}; '
            f'its cameras are {", ".join(keyframe.cameras)}'
        )
    cameras = {name: keyframe.cameras[name] for name in values['cameras']}
    missing = [image.path for image in cameras.values() if not image.path.is_file()]
    if missing and values['require_files']:
        raise SurroundError(f'{path} leaves no keyframe: picture {missing[0]} is missing')
    return [replace(keyframe, cameras=cameras)]


def main() -> None:
    """Run the node."""
    # One thread: pictures must not overtake one another.
    run_node(SurroundPlayerNode, threads=1)


if __name__ == '__main__':
    main()
