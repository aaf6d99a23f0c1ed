"""Volume rendering of density and features along rays.

Opacity as in NeRF (Mildenhall et al. 2020): over a length d of density s, 1 - exp(-s d). Weights
come from density alone; features, which cost most, are looked up only where weights are largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.grid_tensors import places
from vlm_nodes.langocc.rays import Rays, box_span
from vlm_nodes.surround import VoxelGrid

_EVEN_SHARE = 0.3
"""Of the samples of a ray that ends, about how many are spread evenly whatever the proposal says: a
long step over what seems empty would count the density at its one sample for all of its length."""


@dataclass(frozen=True)
class Sampling:
    """How a ray is sampled.

    Attributes:
        proposals: Even steps between entering and leaving the grid, of which density alone is
            looked up, without a gradient, to see where samples are worth it.
        samples: Steps that count, closest where the proposals' weight is.
        top: How many of them are looked up in the features; the weight of the rest is shared out
            among these.
        near_m: Rays begin so far from the camera.
        beyond_m: Rays are followed so far past the grid's sides and top, through what its outermost
            voxels say. Otherwise what lies just beyond would be put at the edge of the grid.

    Raises:
        LangOccError: A value is out of its range.
    """

    proposals: int = 50
    samples: int = 100
    top: int = 16
    near_m: float = 0.05
    beyond_m: float = 0.0

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.proposals < 1 or self.samples < 1:
            raise LangOccError(
                f'proposals and samples must be at least 1, are {self.proposals}, {self.samples}'
            )
        if not 1 <= self.top <= self.samples:
            raise LangOccError(f'top must be 1 to samples = {self.samples}, is {self.top}')
        if not 0 <= self.near_m < 10:
            raise LangOccError(f'near_m must be 0 to 10 metres, is {self.near_m}')
        if not 0 <= self.beyond_m < 1000:
            raise LangOccError(f'beyond_m must be 0 to 1000 metres, is {self.beyond_m}')


@dataclass(frozen=True)
class Rendered:
    """What rays see.

    Attributes:
        features: (B, R, C) weighted sums; they lack what lies behind the grid.
        opacity: (B, R) sum of the weights; 1 minus it is left for what lies behind.
        depth_m: (B, R) mean distance along the ray, what is left counted at the end of the grid.
        far_m: (B, R) where the grid, or what is followed beyond it, ends; 0 for rays that miss it.
        spread_m: (B, R) mean distance between two places that the ray sees, by their weights.
    """

    features: Tensor
    opacity: Tensor
    depth_m: Tensor
    far_m: Tensor
    spread_m: Tensor


def render(
    density: Tensor,
    features: Tensor,
    rays: Rays,
    grid: VoxelGrid,
    sampling: Sampling,
    *,
    jitter: bool = False,
) -> Rendered:
    """Render rays through a volume.

    Args:
        density: (B, 1, X, Y, Z) 1/m, at least 0; of the grid's voxels or of parts of them.
        features: (B, C, X, Y, Z), likewise.
        rays: (B, R, 3).
        grid: What the volumes fill.
        sampling: How.
        jitter: Move samples at random within their steps, for training.
    """
    near, far = box_span(rays, grid, sampling.near_m, sampling.beyond_m)
    edges = even_edges(near, far, sampling.proposals, jitter=jitter)
    with torch.no_grad():
        steps = edges.diff(dim=-1)
        seen = sample_volume(density, _points(rays, _middles(edges)), grid)[:, 0]
        proposal, _ = ray_weights(seen, steps)
    edges = importance_edges(edges, proposal, sampling.samples, jitter=jitter)
    steps, middles = edges.diff(dim=-1), _middles(edges)
    weights, left = ray_weights(sample_volume(density, _points(rays, middles), grid)[:, 0], steps)
    opacity = weights.sum(-1)
    depth = (weights * middles).sum(-1) + left * far
    kept, where = _top(weights, sampling.top)
    looked_up = sample_volume(features, _points(rays, middles.gather(-1, where)), grid)
    kept = kept * (opacity / kept.sum(-1).clamp(min=1e-8))[..., None]
    return Rendered(
        torch.einsum('brk,bcrk->brc', kept, looked_up),
        opacity,
        depth,
        far,
        ray_spread(weights, middles, steps),
    )


def sample_volume(volume: Tensor, points_m: Tensor, grid: VoxelGrid) -> Tensor:
    """Look a volume up, linearly between voxels' centres; outermost values reach on outwards.

    Args:
        volume: (B, C, X, Y, Z).
        points_m: (B, R, S, 3).
        grid: Where the voxels are.

    Returns:
        (B, C, R, S).
    """
    found = functional.grid_sample(
        volume,
        places(grid, points_m)[:, None].to(volume.dtype),
        mode='bilinear',
        padding_mode='border',
        align_corners=False,
    )
    return found[:, :, 0]


def ray_weights(density: Tensor, steps_m: Tensor) -> tuple[Tensor, Tensor]:
    """How much of what a ray sees is in each of its steps.

    Args:
        density: (..., S) 1/m.
        steps_m: (..., S) lengths.

    Returns:
        (..., S) weights and (...) what is left behind the last; they add up to 1.
    """
    depth = (density * steps_m).cumsum(-1)
    through = torch.exp(-depth)
    before = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], dim=-1)
    return before - through, through[..., -1]


def ray_spread(weights: Tensor, middles_m: Tensor, steps_m: Tensor) -> Tensor:
    """How far apart what a ray sees is: the distortion of mip-NeRF 360 (Barron et al. 2022).

    Args:
        weights: (..., S).
        middles_m: (..., S) rising distances of the steps' middles.
        steps_m: (..., S) their lengths.

    Returns:
        (...): the sum over pairs of steps of both weights and their distance; a step's distance
        from itself is a third of its length.
    """
    before, moment = weights.cumsum(-1) - weights, weights * middles_m
    pairs = weights * (middles_m * before - (moment.cumsum(-1) - moment))
    return 2 * pairs.sum(-1) + (weights.square() * steps_m).sum(-1) / 3


def even_edges(near: Tensor, far: Tensor, count: int, *, jitter: bool) -> Tensor:
    """Ends of even steps: (...) from and to -> (..., count + 1); inner ones moved at random."""
    share = torch.linspace(0, 1, count + 1, device=near.device, dtype=near.dtype)
    share = share.expand(*near.shape, count + 1)
    if jitter and count > 1:
        moved = (torch.rand_like(share[..., 1:-1]) - 0.5) / count
        share = torch.cat([share[..., :1], share[..., 1:-1] + moved, share[..., -1:]], dim=-1)
    return near[..., None] + (far - near)[..., None] * share


def importance_edges(edges: Tensor, weights: Tensor, count: int, *, jitter: bool) -> Tensor:
    """Ends of steps that are short where weights are large, from inverting their running sum.

    Args:
        edges: (..., N + 1) rising.
        weights: (..., N).
        count: M steps wanted.
        jitter: Move inner ends at random.

    Returns:
        (..., M + 1) rising, first and last as they were.
    """
    share = weights.detach() + _EVEN_SHARE / weights.shape[-1]
    running = (share / share.sum(-1, keepdim=True)).cumsum(-1)
    running = torch.cat([torch.zeros_like(running[..., :1]), running], dim=-1)
    running = running / running[..., -1:]
    zero = torch.zeros_like(running[..., 0])
    wanted = even_edges(zero, zero + 1, count, jitter=jitter).contiguous()
    above = torch.searchsorted(running.contiguous(), wanted, right=True)
    above = above.clamp(1, weights.shape[-1])
    low, high = running.gather(-1, above - 1), running.gather(-1, above)
    start, end = edges.gather(-1, above - 1), edges.gather(-1, above)
    part = ((wanted - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return start + (end - start) * part


def _top(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest weights and their places; gradients go to the weights."""
    if count == weights.shape[-1]:
        everywhere = torch.arange(count, device=weights.device).expand(weights.shape)
        return weights, everywhere
    where = weights.detach().topk(count, dim=-1, sorted=False).indices
    return weights.gather(-1, where), where


def _middles(edges: Tensor) -> Tensor:
    return (edges[..., :-1] + edges[..., 1:]) / 2


def _points(rays: Rays, distances_m: Tensor) -> Tensor:
    """(B, R, S) along the rays -> (B, R, S, 3)."""
    return rays.origins_m[..., None, :] + rays.directions[..., None, :] * distances_m[..., None]
