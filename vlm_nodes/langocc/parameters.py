"""Parameters of `occupancy_node`, with what `ros2 param describe` says of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm_nodes.langocc.observer import ObserverConfig
from vlm_nodes.langocc.predictor import THRESHOLD
from vlm_nodes.langocc.scene import PlanConfig
from vlm_nodes.live.camera_sets import SET_PARAMETERS
from vlm_nodes.node import Parameter
from vlm_nodes.surround import VoxelGrid

_PLAN: Final = PlanConfig()

PARAMETERS: Final = (
    # Model
    Parameter('checkpoint', '', 'Folder that train_langocc wrote. Has no default: name one.'),
    Parameter('device', 'cpu', 'cpu, cuda or cuda:1.'),
    Parameter(
        'torch_threads',
        1,
        'CPU threads of the model. More than idle cores makes it many times slower.',
        low=1,
        high=256,
    ),
    Parameter('weights_dir', '', 'Folder that fetch_weights wrote to; empty: ~/.cache/vlm_nodes.'),
    Parameter(
        'lower_m',
        [0.0, 0.0, 0.0],
        'Lower corner of the grid that is wanted, in base_frame; with voxel_m 0 of no meaning.',
    ),
    Parameter('upper_m', [0.0, 0.0, 0.0], 'Its upper corner.'),
    Parameter(
        'voxel_m',
        0.0,
        'Edge of the voxels that are wanted; a checkpoint of another grid is refused. 0: any grid.',
        low=0.0,
        high=10.0,
    ),
    # Cameras
    Parameter(
        'cameras',
        [''],
        "Those of the checkpoint's cameras that there are; empty: all of them.",
    ),
    *SET_PARAMETERS,
    Parameter('info_topic', 'camera_info', 'Intrinsics are on NAME/info_topic.'),
    # Frames
    Parameter(
        'base_frame',
        'base_link',
        "The vehicle's frame, of all that is published: x ahead, y left, z up, ground at z = 0, "
        'as in training.',
    ),
    Parameter(
        'fixed_frame',
        '',
        'Frame that does not move, such as odom: pictures are then used from where the vehicle was '
        'when each was taken. Empty: its motion within a moment is left out of account.',
    ),
    Parameter(
        'tf_timeout_s',
        0.5,
        "How long to wait for cameras' transforms at their pictures' stamps, in seconds.",
        low=0.0,
        high=60.0,
    ),
    Parameter(
        'tf_cache_s', 30.0, 'How long transforms are kept, in seconds.', low=1.0, high=3600.0
    ),
    # What is told apart
    Parameter(
        'threshold',
        THRESHOLD,
        'Opacity of a voxel from which it is occupied.',
        low=0.001,
        high=0.999,
    ),
    Parameter('prompts', '', "JSON file of prompts by class; empty: those of Occ3D's classes."),
    Parameter('classes', [''], 'Only these classes are told apart; empty: all of the prompts.'),
    # Seen from above
    Parameter(
        'grid_min_z_m',
        _PLAN.low_m,
        'Voxels count for occupancy_grid whose middles are above this height, in metres,',
        low=-100.0,
        high=100.0,
    ),
    Parameter(
        'grid_max_z_m',
        _PLAN.high_m,
        'and below this one.',
        low=-100.0,
        high=100.0,
    ),
    Parameter('ground_classes', list(_PLAN.ground), 'Classes that do not stand in the way.'),
    # Answers
    Parameter(
        'query_threshold',
        0.5,
        'Least cosine of a voxel with a text, where the query does not say. CLIPs differ: with '
        "OpenAI's, 0.2 is much.",
        low=-1.0,
        high=1.0,
    ),
    Parameter('publish_features', False, "Publish ~/features: occupied voxels' hidden features."),
)


def observer_config(values: Mapping[str, Any]) -> ObserverConfig:
    """The configuration that parameters ask for.

    Raises:
        ValueError: Values do not go together; the message names them.
    """

    def path(name: str) -> Path | None:
        return Path(values[name]).expanduser() if values[name] else None

    checkpoint = path('checkpoint')
    if checkpoint is None:
        raise ValueError('parameter checkpoint is empty: name a folder that train_langocc wrote')
    return ObserverConfig(
        checkpoint,
        device=values['device'],
        grid=_grid(values),
        cameras=tuple(values['cameras']),
        threshold=values['threshold'],
        prompts=path('prompts'),
        classes=tuple(values['classes']),
        plan=PlanConfig(
            values['grid_min_z_m'], values['grid_max_z_m'], tuple(values['ground_classes'])
        ),
        weights_dir=path('weights_dir'),
    )


def _grid(values: Mapping[str, Any]) -> VoxelGrid | None:
    if not values['voxel_m']:
        return None
    for name in ('lower_m', 'upper_m'):
        if len(values[name]) != 3:
            raise ValueError(f'parameter {name} must be 3 numbers, is {list(values[name])}')
    return VoxelGrid(tuple(values['lower_m']), tuple(values['upper_m']), values['voxel_m'])
