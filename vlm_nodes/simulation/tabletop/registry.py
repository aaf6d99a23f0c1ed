"""Every task there is, by the names that people type."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from vlm_nodes.simulation.tabletop import (
    align_rope,
    assembling_kits,
    packing_boxes_pairs,
    packing_objects,
    packing_shapes,
    put_block_in_bowl,
    separating_piles,
    stack_block_pyramid,
    towers_of_hanoi,
)
from vlm_nodes.simulation.tabletop.task import Family, Task, Variant, check_mode, with_colors

# Only the unseen form is published, under the name without a split.
_PACKING_SHAPES: Final = {
    'unseen': 'packing-shapes',
    'seen': 'packing-shapes-seen',
    'full': 'packing-shapes-full',
}

FAMILIES: Final = MappingProxyType(
    {
        'put-block-in-bowl': Family(put_block_in_bowl.build, with_colors('put-block-in-bowl')),
        'stack-block-pyramid-seq': Family(
            stack_block_pyramid.build, with_colors('stack-block-pyramid-seq')
        ),
        'towers-of-hanoi-seq': Family(towers_of_hanoi.build, with_colors('towers-of-hanoi-seq')),
        'packing-boxes-pairs': Family(
            packing_boxes_pairs.build, with_colors('packing-boxes-pairs')
        ),
        'packing-shapes': Family(packing_shapes.build, _PACKING_SHAPES),
        'assembling-kits-seq': Family(assembling_kits.build, with_colors('assembling-kits-seq')),
        'separating-piles': Family(separating_piles.build, with_colors('separating-piles')),
        'align-rope': Family(align_rope.build, {'full': 'align-rope'}),
        'packing-objects-seq': Family(
            packing_objects.build_sequence,
            {split: f'packing-{split}-objects-seq' for split in ('seen', 'unseen')},
        ),
        'packing-objects-group': Family(
            packing_objects.build_group,
            {split: f'packing-{split}-objects-group' for split in ('seen', 'unseen')},
        ),
    }
)


def task_names() -> tuple[str, ...]:
    """Full names of all tasks in all their splits."""
    return tuple(name for family in FAMILIES.values() for name in family.full_names.values())


def make_task(
    name: str, split: str | None = None, mode: str = 'test', object_dir: Path | None = None
) -> Task:
    """A task by its name.

    Args:
        name: with its split, such as 'put-block-in-bowl-unseen-colors', or without.
        split: 'seen', 'unseen' or 'full'; without one, the name says it, or it is 'seen'.
        mode: 'train', 'val' or 'test'. In training, 'unseen' shows what 'seen' shows.
        object_dir: folder of meshes for the tasks that pack objects.

    Raises:
        ValueError: if there is no such task, split or mode; the message names those there are.
    """
    check_mode(mode)
    family, named_split = _family_and_split(name)
    if split is not None and named_split is not None and split != named_split:
        raise ValueError(f'task {name!r} is of split {named_split!r}, not {split!r}')
    full_names = FAMILIES[family].full_names
    chosen = split or named_split or next(iter(full_names))
    if chosen not in full_names:
        raise ValueError(
            f'task {family!r} has no split {chosen!r}; it has: {", ".join(full_names)}'
        )
    variant = Variant(chosen, mode, object_dir)
    return Task(family, full_names[chosen], variant, FAMILIES[family].build)


def _family_and_split(name: str) -> tuple[str, str | None]:
    for family, entry in FAMILIES.items():
        if name == family:
            return family, None
        for split, full_name in entry.full_names.items():
            if name == full_name:
                return family, split
    known = ', '.join((*FAMILIES, *task_names()))
    raise ValueError(f'there is no task {name!r}; the tasks are: {known}')
