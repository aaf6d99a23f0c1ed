"""Named things go into the brown box: one after the other, or all of a kind.

The published tasks pack scans of household goods. These pack our own shapes, or a folder of meshes,
with the published rules; figures of the one do not compare with figures of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.container import place_container
from vlm_nodes.simulation.tabletop.goals import Goal, Item, Zone, box_points
from vlm_nodes.simulation.tabletop.layout import Layout, NoRoomError
from vlm_nodes.simulation.tabletop.objects import Model, models
from vlm_nodes.simulation.tabletop.packing_boxes_pairs import split
from vlm_nodes.simulation.tabletop.props import Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

SIDE_RANGE_M: Final = (0.20, 0.35)
LEAST_CELL_M: Final = 0.08
REPEATS: Final = 2
_EDGE_M: Final = 0.01
_TOP_M: Final = 0.275
# A thing's largest side: this share of its cell's smaller side, but within limits.
_SHARE: Final = 0.8
_LARGEST_M: Final = (0.055, 0.09)


@dataclass(frozen=True)
class _Scene:
    """A container and things beside it, each with a place in the container."""

    box: Prop
    size_m: tuple[float, float]
    props: tuple[Prop, ...]
    names: tuple[str, ...]
    targets: tuple[Pose, ...]
    sizes: tuple[tuple[float, ...], ...]

    def goal(self, chosen: list[int], instruction: str, worth: float) -> Goal:
        points = tuple(box_points(self.sizes[i]) for i in chosen)
        return Goal(
            instruction=instruction,
            items=tuple(Item(self.props[i].name) for i in chosen),
            targets=tuple(self.targets[i] for i in chosen),
            matches=np.eye(len(chosen), dtype=np.bool_),
            worth=worth,
            zone=Zone(self.box.pose, self.size_m, _TOP_M, points),
        )


def build_sequence(rng: np.random.Generator, variant: Variant) -> Setting:
    """Different things; some of them are asked for, one by one."""
    layout = Layout(rng)
    box, size, cells = _container(rng, layout, least_cells=2)
    known = _models(variant)
    count = min(len(cells), len(known))
    chosen = [known[int(i)] for i in rng.choice(len(known), count, replace=False)]
    scene = _scene(layout, box, size, cells, chosen)
    packed = int(rng.integers(1, count))
    goals = tuple(
        scene.goal([i], f'pack the {scene.names[i]} in the brown box', 1 / packed)
        for i in range(packed)
    )
    return Setting((box, *scene.props), goals, max_steps=packed + 1)


def build_group(rng: np.random.Generator, variant: Variant) -> Setting:
    """Two things twice, and others; all of one kind are asked for."""
    layout = Layout(rng)
    box, size, cells = _container(rng, layout, least_cells=2 * REPEATS)
    known = _models(variant)
    wanted, other = (known[int(i)] for i in rng.choice(len(known), 2, replace=False))
    rest = [model for model in known if model not in (wanted, other)]
    more = min(len(cells) - 2 * REPEATS, len(rest))
    others = [rest[int(i)] for i in rng.choice(len(rest), more, replace=False)]
    chosen = [wanted] * REPEATS + [other] * REPEATS + others
    scene = _scene(layout, box, size, cells, chosen)
    instruction = f'pack all the {wanted.name} objects in the brown box'
    goal = scene.goal(list(range(REPEATS)), instruction, 1.0)
    return Setting((box, *scene.props), (goal,), max_steps=REPEATS + 1)


def _models(variant: Variant) -> list[Model]:
    """The things that a split and mode show."""
    is_unseen = variant.split == 'unseen' and variant.mode != 'train'
    known = [each for each in models(variant.object_dir) if each.is_seen != is_unseen]
    if len(known) < 2:
        shown = 'unseen' if is_unseen else 'seen'
        raise ValueError(
            f'{variant.object_dir} has {len(known)} things that are {shown}; two are needed'
        )
    return known


def _container(
    rng: np.random.Generator, layout: Layout, least_cells: int
) -> tuple[Prop, tuple[float, float], list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]]:
    box, size = place_container(rng, layout, *SIDE_RANGE_M)
    half = np.array(size) / 2
    cells = split(rng, np.stack([-half + _EDGE_M, half - _EDGE_M]), LEAST_CELL_M)
    if len(cells) < least_cells:
        raise NoRoomError('the container is too small for this task: draw again')
    return box, size, cells


def _scene(
    layout: Layout,
    box: Prop,
    size_m: tuple[float, float],
    cells: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    chosen: list[Model],
) -> _Scene:
    props, targets, sizes = [], [], []
    for index, (model, cell) in enumerate(zip(chosen, cells, strict=False)):
        smaller = float((cell[1] - cell[0]).min())
        scale = model.scale_to(float(np.clip(_SHARE * smaller, *_LARGEST_M)))
        extent = tuple(float(side) for side in model.size_m(scale))
        pose = layout.find((extent[0], extent[1]), extent[2] / 2)
        props.append(model.prop(f'thing_{index}', pose, scale))
        middle = cell.mean(axis=0)
        targets.append(box.pose.at((float(middle[0]), float(middle[1]), 0.0)))
        sizes.append(extent)
    names = tuple(model.name for model in chosen)
    return _Scene(box, size_m, tuple(props), names, tuple(targets), tuple(sizes))
