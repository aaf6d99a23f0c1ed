"""`sim_street_node`: drives along simulated streets on the topics of a vehicle's cameras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rclpy.node import Node

from vlm_nodes.node import Parameter, StartError, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.gl import RenderingUnavailableError
from vlm_nodes.simulation.street.recorder import Recorder, Settings, make_scene
from vlm_nodes.simulation.street.vocabulary import TRAIN_SEEDS, VAL_SEEDS
from vlm_nodes.surround.player.player import PLAYER_PARAMETERS, Player
from vlm_nodes.surround.player.shots import DriveMoment, Shot

_SETTINGS: Final = Settings()

PARAMETERS: Final = (
    Parameter(
        'seed',
        VAL_SEEDS.start,
        'The first street: 0 to 999999 are training streets, from 1000000 on held-out ones.',
        TRAIN_SEEDS.start,
        VAL_SEEDS.stop - 1,
    ),
    Parameter('streets', 0, 'Streets to drive, one seed after the other; 0: no end.', 0, 1_000_000),
    Parameter(
        'keyframes',
        _SETTINGS.keyframes,
        'Moments of a drive, half a second of the drive apart.',
        1,
        1000,
    ),
    Parameter('width', _SETTINGS.width, 'Of the pictures in pixels.', 16, 4096),
    Parameter('height', _SETTINGS.height, 'Of the pictures in pixels.', 16, 4096),
    Parameter('samples', _SETTINGS.samples, 'A pixel, for smooth edges; 0 is fastest.', 0, 16),
    *PLAYER_PARAMETERS,
)


class SimStreetNode(Node):
    """Renders moments of drives as they are played; see `Player` for the topics."""

    def __init__(self, **options: Any) -> None:
        """Declare, start GL, wait for listeners.

        Args:
            options: For rclpy's Node, such as its context and parameter overrides.

        Raises:
            StartError: A parameter is wrong or GL cannot start.
        """
        super().__init__('sim_street_node', **options)
        values = declare_parameters(self, PARAMETERS)
        try:
            settings = Settings(
                width=values['width'],
                height=values['height'],
                cameras=tuple(values['cameras']),
                keyframes=values['keyframes'],
                samples=values['samples'],
            )
            self._recorder = Recorder(settings)
        except (ValueError, RenderingUnavailableError) as error:
            raise StartError(f'sim_street_node: {error}') from error
        seeds = range(values['seed'], VAL_SEEDS.stop)[: values['streets'] or None]
        self.player = Player(self, settings.cameras, drive(self._recorder, seeds), values)
        self.get_logger().info(f'street {values["seed"]}: waiting for listeners')

    def destroy_node(self) -> None:
        """Free GL, then everything else."""
        self._recorder.close()
        super().destroy_node()


def drive(recorder: Recorder, seeds: Iterable[int]) -> Iterator[DriveMoment]:
    """The moments of drives along streets, rendered when they are asked for."""
    settings = recorder.settings
    for seed in seeds:
        scene = make_scene(seed, settings)
        for number in range(settings.keyframes):
            stamp_ns = scene.drive.stamp_ns(number)
            views = {name: recorder.view(scene, name, stamp_ns) for name in settings.cameras}
            shots = {
                name: Shot(v.rgb, v.camera, v.ego_from_camera, v.map_from_ego, v.stamp_ns)
                for name, v in views.items()
            }
            yield DriveMoment(stamp_ns, scene.drive.map_from_ego(stamp_ns), shots)


def main() -> None:
    """Run the node."""
    # GL belongs to the thread that it was started in.
    run_node(SimStreetNode, threads=1)


if __name__ == '__main__':
    main()
