"""Parameters of `cliport_node`, with what `ros2 param describe` says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from vlm_nodes.cliport.placing import PlacingConfig
from vlm_nodes.cliport.planner import PlannerConfig
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.node import Parameter

# What a camera without a name is called where it has to have one.
ONLY_CAMERA = 'camera'
# Each candidate's place is a pass of the network of its own.
MOST_CANDIDATES = 20

_WORKSPACE = Workspace()
_PLACING = PlacingConfig()
_PLANNER = PlannerConfig()

PARAMETERS = (
    # Model
    Parameter('checkpoint', '', 'Folder that cliport_train wrote. Has no default: name one.'),
    Parameter('device', 'cpu', 'cpu, cuda or cuda:1.'),
    Parameter(
        'precision',
        'fp32',
        'bf16 and fp16 are faster on a GPU; bf16 also on a CPU that computes in it (AMX).',
        choices=('fp32', 'fp16', 'bf16'),
    ),
    Parameter(
        'torch_threads',
        1,
        'CPU threads of the model. More than idle cores makes it many times slower.',
        low=1,
        high=256,
    ),
    Parameter('weights_dir', '', 'Folder that fetch_weights wrote to; empty: ~/.cache/vlm_nodes.'),
    # Cameras
    Parameter(
        'cameras',
        [''],
        'Names of several cameras, each with its topics under NAME/. Empty: one camera, whose '
        'topics are rgb, depth and camera_info.',
    ),
    Parameter(
        'rgb_transport',
        'raw',
        'raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage on rgb/compressed.',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'depth_transport',
        'raw',
        'raw: sensor_msgs/Image. compressedDepth: CompressedImage on depth/compressedDepth.',
        choices=('raw', 'compressedDepth'),
    ),
    Parameter(
        'sensor_reliability',
        'best_effort',
        'best_effort hears every publisher; reliable loses no image of publishers that are.',
        choices=('best_effort', 'reliable'),
    ),
    Parameter(
        'sync_slop_s',
        0.02,
        'How far apart the stamps of colour and depth may be, in seconds.',
        low=1e-6,
        high=10.0,
    ),
    Parameter(
        'max_age_s',
        0.0,
        'How long before the request images may have been taken, in seconds. 0: only images taken '
        'after it, so that what the robot just did is seen. Negative: any, as for recordings.',
        low=-1.0,
        high=3600.0,
    ),
    Parameter(
        'image_timeout_s',
        5.0,
        'How long a request waits for images of all cameras, in seconds.',
        low=0.0,
        high=3600.0,
    ),
    Parameter(
        'tf_timeout_s',
        0.5,
        "How long to wait for a camera's transform at its image's stamp, in seconds.",
        low=0.0,
        high=60.0,
    ),
    Parameter(
        'tf_cache_s', 30.0, 'How long transforms are kept, in seconds.', low=1.0, high=3600.0
    ),
    # Workspace
    Parameter(
        'table_frame',
        'table',
        "Frame of the workspace and of all answers: z up, the table's top at z = 0.",
    ),
    *(
        Parameter(
            f'{axis}_{bound}_m',
            float(getattr(_WORKSPACE, f'{axis}_range_m')[bound == 'max']),
            f'{"Greatest" if bound == "max" else "Least"} {axis} of the workspace in table_frame, '
            'in metres.',
            low=-100.0,
            high=100.0,
        )
        for axis in 'xyz'
        for bound in ('min', 'max')
    ),
    Parameter(
        'pixel_m',
        _WORKSPACE.pixel_m,
        'Side of a pixel of the heightmap, in metres; has to be that of the training.',
        low=1e-4,
        high=1.0,
    ),
    Parameter(
        'least_coverage',
        _PLANNER.least_coverage,
        'Share of the workspace that cameras have to see.',
        low=0.0,
        high=1.0,
    ),
    # Poses
    Parameter(
        'tool_down',
        _PLANNER.tool_down,
        "true: the tool's z points down at the table, as most grippers' does; false: up.",
    ),
    Parameter(
        'patch_radius_m',
        _PLACING.patch_radius_m,
        'Disc around the pick whose heights count, in metres.',
        low=1e-4,
        high=1.0,
    ),
    Parameter(
        'pick_percentile',
        _PLACING.pick_percentile,
        'Which of these heights is the top of what is picked.',
        low=0.0,
        high=100.0,
    ),
    Parameter(
        'surround_radius_m',
        _PLACING.surround_radius_m,
        'Disc around the pick in which what the thing stands on is looked for, in metres.',
        low=1e-4,
        high=1.0,
    ),
    Parameter(
        'base_percentile',
        _PLACING.base_percentile,
        'Which height of that disc is what it stands on.',
        low=0.0,
        high=100.0,
    ),
    Parameter(
        'support_percentile',
        _PLACING.support_percentile,
        'Which height under the footprint bears the thing when it is placed.',
        low=0.0,
        high=100.0,
    ),
    Parameter(
        'clearance_m',
        _PLACING.clearance_m,
        'Kept between what is placed and what it is placed on, in metres.',
        low=0.0,
        high=1.0,
    ),
    Parameter(
        'least_seen',
        _PLACING.least_seen,
        'Share of the pixels that a height is read from that has to be seen.',
        low=0.001,
        high=1.0,
    ),
    # Confidence
    Parameter(
        'max_candidates',
        3,
        'Candidates where the request does not say; each costs time of the network.',
        low=1,
        high=MOST_CANDIDATES,
    ),
    Parameter(
        'score_radius_m',
        _PLANNER.score_radius_m,
        'Half the side of the square whose probability is the score of a pose, in metres.',
        low=1e-4,
        high=1.0,
    ),
    *(
        Parameter(
            f'least_{what}_score',
            getattr(_PLANNER, f'least_{what}_score'),
            f'Below this score of the {what} there is no plan; 0 allows all.',
            low=0.0,
            high=1.0,
        )
        for what in ('pick', 'place')
    ),
    *(
        Parameter(
            f'most_{what}_entropy',
            getattr(_PLANNER, f'most_{what}_entropy'),
            f'Above this entropy of the {what} affordance there is no plan; 1 allows all.',
            low=0.0,
            high=1.0,
        )
        for what in ('pick', 'place')
    ),
    Parameter(
        'least_word_match',
        _PLANNER.least_word_match,
        'There is no plan where what would be picked looks less than this like any of the words '
        'that are looked for, by CLIP: 0 is as the middle of the table, 1 as its best patch. Only '
        'judged where CLIP knows all of these words; 0 allows all.',
        low=0.0,
        high=1.0,
    ),
    Parameter(
        'refuse_unknown_words',
        _PLANNER.refuse_unknown_words,
        'Refuse instructions with a word that neither the training had nor CLIP knows; otherwise '
        'the answer says so. Instructions of nothing but such words are always refused.',
    ),
)


def camera_parameters(cameras: Sequence[str]) -> tuple[Parameter, ...]:
    """Parameters that each camera has, such as `depth_scale.front`."""
    return tuple(
        Parameter(
            f'depth_scale.{camera or ONLY_CAMERA}',
            1.0,
            f'What depths of {camera or "the camera"} are multiplied by, for sensors that measure '
            'all of them too short or too long.',
            low=0.1,
            high=10.0,
        )
        for camera in cameras
    )


def planner_config(values: Mapping[str, Any]) -> PlannerConfig:
    """The planner's configuration, from values by parameter.

    Raises:
        ValueError: Values do not go together; the message names them.
    """
    ranges = {
        f'{axis}_range_m': (values[f'{axis}_min_m'], values[f'{axis}_max_m']) for axis in 'xyz'
    }
    own = {f.name: values[f.name] for f in fields(PlannerConfig) if f.name in values}
    return PlannerConfig(
        Workspace(**ranges, pixel_m=values['pixel_m']),
        PlacingConfig(**{f.name: values[f.name] for f in fields(PlacingConfig)}),
        **own,
    )


def workspace_difference(trained: Any, workspace: Workspace) -> tuple[str, bool]:
    """How the workspace of a checkpoint's training differs from the one to work in.

    Args:
        trained: Ranges and pixel as the checkpoint has them; None where it does not say.
        workspace: To work in.

    Returns:
        What differs, '' where nothing does, and whether the model is of no use with it: what it
        learned are sizes in pixels.

    Raises:
        ValueError: What the checkpoint says is no workspace.
    """
    if trained is None:
        return '', False
    try:
        known = Workspace(**trained)
    except (TypeError, ValueError) as error:
        raise ValueError(f'the workspace of the checkpoint cannot be read: {error}') from error
    names = [
        f.name for f in fields(Workspace) if getattr(known, f.name) != getattr(workspace, f.name)
    ]
    said = ', '.join(
        f'{name} is {getattr(workspace, name)}, in training it was {getattr(known, name)}'
        for name in names
    )
    return said, 'pixel_m' in names
