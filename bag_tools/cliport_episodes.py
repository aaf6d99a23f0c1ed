"""Scenes and actions of a recording as CLIPort episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bag_tools.action_table import Action
from bag_tools.reader import BagError
from bag_tools.table_cameras import TableCamera
from bag_tools.table_rows import Instant, TableError
from bag_tools.table_scenes import Scene
from bag_tools.transform_tree import TransformError, TransformTree
from vlm_nodes.cliport.alignment import Agreement, Correction, agreements, align
from vlm_nodes.cliport.episode import Calibration, Episode, Step
from vlm_nodes.cliport.heightmap import Heightmap, fuse
from vlm_nodes.cliport.poses import pixel_of_pose, tool_angle, tool_pose
from vlm_nodes.cliport.workspace import Workspace

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class ToolConfig:
    """Whose pose a pick or place is, where a table gives a moment in place of a pose.

    Attributes:
        frame: Frame of the tool in tf; None where all poses are given.
        table_frame: Frame that poses are wanted in.
        tip_m: The point that touches, in the tool's frame.
    """

    frame: str | None = None
    table_frame: str = 'base_link'
    tip_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass
class Scenes:
    """Fused scenes by stamp, and what was seen of the cameras on the way.

    Attributes:
        workspace: What is fused.
        cameras: In the order of every scene's views.
        align_to: Index of the camera that the others are aligned to, from the first scene; None
            takes all as they are calibrated.
        scale_depth: Whether aligning also looks for a factor on their depths.
        heightmaps: By stamp.
        calibrations: As they held in the first scene.
        agreements: Of every scene, between its views.
        lag_s: The largest of any scene.
    """

    workspace: Workspace
    cameras: Sequence[TableCamera]
    align_to: int | None = None
    scale_depth: bool = False
    heightmaps: dict[int, Heightmap] = field(default_factory=dict)
    calibrations: tuple[Calibration, ...] = ()
    agreements: list[Agreement] = field(default_factory=list)
    lag_s: float = 0.0
    corrections: dict[int, Correction] = field(default_factory=dict)

    def add(self, scene: Scene) -> None:
        """Fuse a scene.

        Raises:
            EmptyHeightmapError: No depth lies in the workspace.
            AlignmentError: The views share too little to be aligned.
        """
        views = list(scene.views)
        if self.align_to is not None and not self.heightmaps:
            fixed = views[self.align_to]
            others = (i for i in range(len(views)) if i != self.align_to)
            self.corrections = {
                i: align(views[i], fixed, self.workspace, scale_depth=self.scale_depth)
                for i in others
            }
        for index, correction in self.corrections.items():
            views[index] = correction.apply(views[index])
        self.heightmaps[scene.stamp_ns] = fuse(views, self.workspace)
        self.agreements += agreements(views, self.workspace)
        self.lag_s = max(self.lag_s, scene.lag_s)
        if not self.calibrations:
            self.calibrations = tuple(
                Calibration(camera.name, view.camera, view.table_from_camera)
                for camera, view in zip(self.cameras, views, strict=True)
            )


def stamps_of(episodes: Sequence[Sequence[Action]], start_ns: int) -> list[int]:
    """When the table has to be seen: before every action, and at the end of every episode."""
    instants = [action.seen for actions in episodes for action in actions]
    ends = [actions[-1].end for actions in episodes]
    return [i.stamp_ns(start_ns) for i in (*instants, *ends) if i is not None]


def make_episodes(
    groups: Sequence[Sequence[Action]],
    scenes: Scenes,
    tree: TransformTree,
    tool: ToolConfig,
    start_ns: int,
    *,
    task: str,
    mode: str,
    provenance: Mapping[str, str],
) -> Iterator[Episode]:
    """One episode for every group of actions.

    Raises:
        TableError: A pose is outside of the workspace, or leans too far.
        BagError: tf does not say where the tool was.
    """
    for actions in groups:
        steps = tuple(
            Step(
                scenes.heightmaps[action.seen.stamp_ns(start_ns)],
                action.instruction,
                *_poses(action, tree, tool, start_ns, scenes.workspace),
                1 / len(actions) if action.reward is None else action.reward,
            )
            for action in actions
        )
        end = actions[-1].end
        assert end is not None  # the table was read so
        final = scenes.heightmaps[end.stamp_ns(start_ns)]
        yield Episode(task, mode, None, steps, final, scenes.calibrations, provenance)


def _poses(
    action: Action, tree: TransformTree, tool: ToolConfig, start_ns: int, workspace: Workspace
) -> tuple[Matrix, Matrix]:
    """Pick and place as episodes have them: the tool's z up, and a turn about it."""
    poses = []
    for name, given in (('pick', action.pick), ('place', action.place)):
        matrix = _tool_at(given, tree, tool, start_ns) if isinstance(given, Instant) else given
        try:
            pose = tool_pose(matrix[:3, 3], tool_angle(matrix))
            pixel_of_pose(workspace, pose)  # refuses what is outside
        except ValueError as error:
            raise TableError(f'line {action.line} of the table: {name}: {error}') from error
        poses.append(pose)
    return poses[0], poses[1]


def _tool_at(when: Instant, tree: TransformTree, tool: ToolConfig, start_ns: int) -> Matrix:
    if tool.frame is None:
        raise TableError(
            'the table gives moments of picks and places: say with --tool-frame whose pose they '
            f'are (frames of tf: {", ".join(tree.frames) or "none"})'
        )
    tip = np.eye(4)
    tip[:3, 3] = tool.tip_m
    try:
        return tree.lookup(tool.table_frame, tool.frame, when.stamp_ns(start_ns)) @ tip
    except TransformError as error:
        raise BagError(f'the tool is not known where it picks or places: {error}') from error
