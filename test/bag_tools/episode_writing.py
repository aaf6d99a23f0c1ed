"""Episodes with known contents, as rosbag2npz writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
NAMES = ('lift', 'turn', 'grip')


def episode_arrays(steps: int, number: int = 0, **more: Any) -> dict[str, Any]:
    """Every stream says its episode and tick: color[t, 0, 0] is (number, t, 0)."""
    ticks = np.arange(steps)
    color = np.zeros((steps, 6, 8, 3), np.uint8)
    color[..., 0], color[..., 1] = number, ticks[:, None, None]
    touch = np.full((steps, 4, 4, 3), number, np.uint8)
    depth = np.broadcast_to((1000 * (number + 1) + ticks)[:, None, None], (steps, 6, 8))
    joints = np.stack([number + ticks / 10, -ticks / 20, np.full(steps, 0.25)], axis=1)
    joints = joints.astype(np.float32)
    return {
        'color': color,
        'depth': depth.astype(np.uint16),
        'gelsight1': touch,
        'joints_state': joints,
        'actions': np.concatenate([joints[1:], joints[-1:]]),
        'stamps': START_NS + ticks * PERIOD_NS,
        'joint_names': np.array(NAMES),
        'valid_color': np.ones(steps, np.bool_),
        'valid_depth': np.ones(steps, np.bool_),
        'valid_gelsight1': np.ones(steps, np.bool_),
        'valid_joints_state': np.ones(steps, np.bool_),
        'valid_actions': np.ones(steps, np.bool_),
        **more,
    }


def write_episode(
    path: Path,
    steps: int = 5,
    number: int = 0,
    *,
    metadata: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    **more: Any,
) -> Path:
    """An .npz, its arrays replaced by those of `more`."""
    arrays = episode_arrays(steps, number, **more)
    arrays['metadata'] = np.array(json.dumps(metadata or {}))
    np.savez(path, **{key: value for key, value in arrays.items() if key not in without})
    return path
