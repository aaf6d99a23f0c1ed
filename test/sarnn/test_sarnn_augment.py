from __future__ import annotations

import pytest
import torch

from vlm_nodes.sarnn.augment import Augmentation
from vlm_nodes.sarnn.observation import Observation

NONE = Augmentation(joint_stdev=0, brightness=0, contrast=0, image_stdev=0, erase=0)


def inputs() -> Observation:
    generator = torch.Generator().manual_seed(1)
    return Observation(
        joints=torch.full((4, 50, 6), 0.5),
        images={'color': 0.3 + 0.4 * torch.rand(4, 50, 3, 8, 12, generator=generator)},
        tactile={'gelsight1': torch.rand(4, 50, 3, 8, 8, generator=generator)},
        clip={'color': torch.rand(4, 50, 2, 3, 3, generator=generator)},
    )


def drawn(augmentation: Augmentation, seed: int = 0) -> tuple[Observation, Observation]:
    clean = inputs()
    return clean, augmentation(clean, torch.Generator().manual_seed(seed))


def test_what_is_given_stays_as_it_is() -> None:
    clean, changed = drawn(Augmentation(erase=0.5))
    untouched = inputs()
    assert torch.equal(clean.joints, untouched.joints)
    assert torch.equal(clean.images['color'], untouched.images['color'])
    assert not torch.equal(changed.images['color'], clean.images['color'])
    assert changed.tactile['gelsight1'] is clean.tactile['gelsight1']
    assert changed.clip['color'] is clean.clip['color']


def test_nothing_asked_for_changes_nothing() -> None:
    clean, changed = drawn(NONE)
    assert torch.equal(clean.joints, changed.joints)
    assert torch.equal(clean.images['color'], changed.images['color'])


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_joints_get_noise_of_the_wanted_size(share: float) -> None:
    clean, changed = drawn(
        Augmentation(joint_stdev=0.1, offset_share=share, brightness=0, contrast=0, image_stdev=0)
    )
    noise = changed.joints - clean.joints
    assert noise.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.35)
    within = noise.std(dim=1).mean().item()
    assert within == pytest.approx(0.1 * (1 - share) ** 0.5, rel=0.1, abs=1e-6)


def test_light_is_drawn_once_a_sequence() -> None:
    clean, changed = drawn(Augmentation(0, 0, brightness=0.2, contrast=0.0, image_stdev=0))
    offset = changed.images['color'] - clean.images['color']
    assert torch.allclose(offset, offset[:, :1, :1, :1, :1].expand_as(offset), atol=1e-5)
    assert offset[:, 0, 0, 0, 0].unique().numel() == 4


def test_a_rectangle_is_painted_over_all_ticks_of_some_sequences() -> None:
    clean, changed = drawn(Augmentation(0, 0, 0, 0, 0, erase=0.5))
    differs = (changed.images['color'] != clean.images['color']).any(dim=2)
    assert torch.equal(differs, differs[:, :1].expand_as(differs))
    painted = differs[:, 0].flatten(1).any(dim=1)
    assert painted.any()
    assert not painted.all()


def test_the_same_seed_draws_the_same() -> None:
    augmentation = Augmentation(erase=0.3)
    first, again, other = (drawn(augmentation, seed)[1] for seed in (3, 3, 4))
    assert torch.equal(first.images['color'], again.images['color'])
    assert torch.equal(first.joints, again.joints)
    assert not torch.equal(first.joints, other.joints)


@pytest.mark.parametrize('name', ['joint_stdev', 'brightness', 'image_stdev', 'erase'])
def test_a_bad_number_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name} = -0.1'):
        Augmentation(**{name: -0.1})
