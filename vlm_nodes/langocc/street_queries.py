"""Questions about the LiDAR points of simulated streets, whose classes are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.rays import lidar_pixels
from vlm_nodes.langocc.retrieval import PointQueries
from vlm_nodes.langocc.street_labels import WORDS
from vlm_nodes.simulation.street.truth_files import read_point_truth
from vlm_nodes.surround import Keyframe, NuScenes, read_points
from vlm_nodes.surround.occupancy import CLASSES, FREE


def street_queries(drives: NuScenes, place: int, *, synonyms: bool) -> list[PointQueries]:
    """Every class of streets, asked for in one sweep by its word or by its synonym.

    Raises:
        SurroundError: A sweep or its truth cannot be read.
        LangOccError: The data set was opened without its LiDAR.
    """
    keyframe = drives[place]
    visible = visible_points(keyframe)
    assert keyframe.lidar is not None  # visible_points has seen it
    semantics = read_point_truth(keyframe.lidar.path)
    return [
        PointQueries(keyframe.token, words[synonyms], semantics == CLASSES.index(name), visible)
        for name, words in WORDS.items()
        if CLASSES.index(name) != FREE
    ]


def visible_points(keyframe: Keyframe) -> NDArray[np.bool_]:
    """(N,) LiDAR points of a keyframe that fall into one of its pictures.

    Raises:
        LangOccError: The keyframe has no sweep.
    """
    if keyframe.lidar is None:
        raise LangOccError(f'keyframe {keyframe.token!r} has no LiDAR sweep: open with lidar=True')
    points = read_points(keyframe.lidar)
    visible = np.zeros(len(points), bool)
    for name in keyframe.cameras:
        visible |= lidar_pixels(keyframe, name, points).kept
    return visible
