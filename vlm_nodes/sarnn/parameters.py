"""Parameters of `policy_node`, with what `ros2 param describe` says of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_nodes.node import Parameter
from vlm_nodes.sarnn.command import JointLimits
from vlm_nodes.sarnn.safety import GuardConfig

COMMAND_TOPICS = {
    'joint_trajectory': 'joint_trajectory',
    'float64_multi_array': 'commands',
    'joint_state': 'joint_command',
}

PARAMETERS = (
    # Policy
    Parameter('checkpoint', '', 'File of the trained policy. Has no default: name one.'),
    Parameter('task', '', 'What to do, in words; empty: told by ~/set_task.'),
    Parameter(
        'measured',
        1.0,
        "Share of the measurement against the policy's own prediction in what it sees next: 1 only "
        'measures, 0 only imagines.',
        low=0.0,
        high=1.0,
    ),
    Parameter(
        'rate_hz',
        0.0,
        'Ticks a second; 0: as in training. Another rate than in training changes the speed of all '
        'it learnt.',
        low=0.0,
        high=1000.0,
    ),
    Parameter(
        'tactile_reference',
        'enable',
        'When the image of a touch sensor without contact is taken. enable: the first one after '
        'each enabling and ~/reset. reset: the first one after the start and ~/reset.',
        choices=('enable', 'reset'),
    ),
    Parameter('device', 'cpu', 'cpu, cuda or cuda:1.'),
    Parameter(
        'torch_threads',
        1,
        'CPU threads of the model. More than idle cores makes it many times slower.',
        low=1,
        high=256,
    ),
    # CLIP
    Parameter(
        'model',
        '',
        'CLIP model, where it is not what the checkpoint calls it: an open_clip name, a folder or '
        "NAME.json; empty: the checkpoint's. Another encoder than in training is refused.",
    ),
    Parameter(
        'pretrained',
        '',
        "open_clip tag or weights file of the model; empty: the checkpoint's, or beside the model.",
    ),
    Parameter('weights_dir', '', 'Folder that fetch_weights wrote to; empty: ~/.cache/vlm_nodes.'),
    # Input
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
        'tactile_transport',
        'raw',
        'raw: sensor_msgs/Image. compressed: CompressedImage on gelsight1/compressed.',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'sensor_reliability',
        'best_effort',
        'best_effort hears every publisher; reliable loses no image of publishers that are.',
        choices=('best_effort', 'reliable'),
    ),
    Parameter(
        'wait_periods',
        0.3,
        'How long a tick waits for inputs that are older than half a period, in periods: '
        'simulators send the time before its images.',
        low=0.0,
        high=1.0,
    ),
    # Command
    Parameter(
        'command_type',
        'joint_trajectory',
        'joint_trajectory: trajectory_msgs/JointTrajectory on joint_trajectory. '
        'float64_multi_array: std_msgs/Float64MultiArray on commands, in the order of '
        'command_joints. joint_state: sensor_msgs/JointState on joint_command.',
        choices=tuple(COMMAND_TOPICS),
    ),
    Parameter(
        'command_joints',
        [''],
        "Joints that are commanded, in their order. Empty: all of the policy's.",
    ),
    Parameter(
        'trajectory_periods',
        1.5,
        'Time a trajectory gives the robot to reach its point, in periods.',
        low=1.0,
        high=10.0,
    ),
    Parameter('shadow', False, 'Command nothing, but show on ~/command what would be sent.'),
    # Safety
    Parameter(
        'hold_after_s',
        0.3,
        'Age of an input, by its stamp, from which the last command is held, in seconds.',
        low=0.01,
        high=60.0,
    ),
    Parameter(
        'stop_after_s',
        2.0,
        'Age of an input from which nothing is sent until somebody enables, in seconds.',
        low=0.01,
        high=600.0,
    ),
    Parameter(
        'ramp_s',
        2.0,
        'Time in which speed rises from 0 after enabling and after holding, in seconds.',
        low=0.0,
        high=60.0,
    ),
    Parameter(
        'max_velocity',
        1.0,
        'Greatest speed of every joint, in radians or metres a second; '
        'joint_limits.JOINT.max_velocity says it of one.',
        low=1e-4,
        high=100.0,
    ),
    Parameter(
        'max_lag',
        0.0,
        'How far a joint may be from its last command before all stops, in radians or metres; '
        '0: any. joint_limits.JOINT.max_lag says it of one.',
        low=0.0,
        high=100.0,
    ),
    Parameter(
        'bounds_margin',
        0.05,
        'How far joints may leave their range in training, as a share of it, where '
        'joint_limits.JOINT.min_position and max_position say nothing.',
        low=0.0,
        high=10.0,
    ),
)

_OF_JOINT = {
    'min_position': 'Least position of joint {}, in radians or metres; NaN: as in training.',
    'max_position': 'Greatest position of joint {}; NaN: as in training.',
    'max_velocity': 'Greatest speed of joint {} a second; NaN: as max_velocity.',
    'max_lag': 'How far joint {} may be from its last command; NaN: as max_lag, 0: any.',
}


def crop_parameters(streams: Sequence[str]) -> tuple[Parameter, ...]:
    """Parameters that a policy's images have, such as `crop.color`."""
    return tuple(
        Parameter(
            f'crop.{stream}',
            [0, 0, 0, 0],
            f'Left, top, width and height in pixels of what is kept of {stream}: what rosbag2npz '
            'cut from the recordings. All 0: everything.',
        )
        for stream in streams
    )


def joint_parameters(joints: Sequence[str]) -> tuple[Parameter, ...]:
    """Parameters that a policy's joints have, such as `joint_limits.elbow.max_velocity`."""
    return tuple(
        Parameter(f'joint_limits.{joint}.{key}', math.nan, description.format(joint))
        for joint in joints
        for key, description in _OF_JOINT.items()
    )


def joint_limits(
    values: Mapping[str, Any],
    joints: Sequence[str],
    bounds: Mapping[str, tuple[float, float]],
) -> JointLimits:
    """Limits of joints, from parameters and from what they were in training.

    Args:
        values: Of `PARAMETERS` and of the joints' `joint_parameters`.
        joints: That are commanded, in their order.
        bounds: Least and greatest position of each in training.

    Raises:
        ValueError: A limit is none; the message names the joint.
    """

    def own(joint: str, key: str, otherwise: float) -> float:
        value = float(values[f'joint_limits.{joint}.{key}'])
        return otherwise if math.isnan(value) else value

    def position(joint: str, key: str, end: int, sign: int) -> float:
        low, high = bounds[joint]
        widened = bounds[joint][end] + sign * values['bounds_margin'] * (high - low)
        return own(joint, key, widened)

    return JointLimits(
        tuple(joints),
        lower=tuple(position(joint, 'min_position', 0, -1) for joint in joints),
        upper=tuple(position(joint, 'max_position', 1, 1) for joint in joints),
        max_velocity=tuple(own(joint, 'max_velocity', values['max_velocity']) for joint in joints),
        # A lag of 0 would stop every robot: it stands for any.
        max_lag=tuple(own(joint, 'max_lag', values['max_lag']) or math.inf for joint in joints),
    )


def guard_config(values: Mapping[str, Any], limits: JointLimits, rate_hz: float) -> GuardConfig:
    """The rules that parameters say.

    Raises:
        ValueError: They contradict each other; the message names them.
    """
    return GuardConfig(
        limits,
        period_s=1.0 / rate_hz,
        ramp_s=values['ramp_s'],
        hold_after_s=values['hold_after_s'],
        stop_after_s=values['stop_after_s'],
    )
