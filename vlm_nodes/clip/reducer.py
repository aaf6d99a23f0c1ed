"""Reducers of CLIP's features: fitted once, kept in a file, shared by maps and occupancy.

The published reducer of LangOcc is one matrix U, an autoencoder with tied weights: a unit vector x
becomes z = x U, and z U^T is compared with x by their angle. Two fits of it are here: singular
vectors, which minimise the squared chord in closed form, and descent on the angle itself.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.projection import FeatureProjection

Rows = NDArray[np.float32]

METHODS: Final = ('svd', 'autoencoder')

_SLOPE_LIMIT: Final = 1e-6
"""Cosines this near to 1 count as this near: the slope of arccos is infinite at 1, and descent on
it ends in NaN as soon as one vector is met exactly."""


class ReducerError(ValueError):
    """A reducer that cannot be used; the text names the file and what to do."""


@dataclass(frozen=True)
class Reducer:
    """A projection and the CLIP that it is for.

    Attributes:
        projection: Without a mean, so that cosines stay comparable.
        identity: Of the encoder whose features it was fitted to.
    """

    projection: FeatureProjection
    identity: str

    def check(self, identity: str, where: str) -> None:
        """Refuse another encoder; the dense method, its identity's last part, does not matter.

        Raises:
            ReducerError: It is another one.
        """
        if self.identity.rpartition('/')[0] != identity.rpartition('/')[0]:
            raise ReducerError(
                f'{where} reduces features of {self.identity}, not of {identity}: fit another one '
                'with train_clip_reducer'
            )


def balanced(texts: Rows, pictures: Rows, ratio: float = 0.5) -> Rows:
    """Rows of both, their weight in all in a ratio, however many of each there are.

    Args:
        texts: (M, D) unit vectors.
        pictures: (N, D) unit vectors; may be empty.
        ratio: Weight of all texts over that of all pictures.

    Returns:
        (M + N, D); rows of texts are longer where there are fewer of them.
    """
    if not len(pictures):
        return texts
    weight = np.sqrt(ratio * len(pictures) / max(len(texts), 1))
    return np.concatenate([texts * np.float32(weight), pictures])


def fit_svd(samples: Rows, k: int) -> FeatureProjection:
    """The k directions that keep most of the samples' squared length (Eckart-Young).

    Raises:
        ValueError: As of `FeatureProjection.fit`.
    """
    return FeatureProjection.fit(samples, k, centred=False)


def fit_autoencoder(
    samples: Rows, k: int, *, steps: int = 400, rate: float = 0.01
) -> FeatureProjection:
    """Directions by descent on the mean angle between samples and what is left of them.

    Args:
        samples: (N, D); their lengths are weights, squared.
        k: Directions.
        steps: Of Adam, on all samples at once.
        rate: Of learning.

    Returns:
        Orthonormal directions of the same span: cosines of projections are those of the fit.

    Raises:
        ValueError: As of `FeatureProjection.fit`.
    """
    start = fit_svd(samples, k)
    lengths = np.linalg.norm(samples, axis=1, keepdims=True)
    rows = torch.from_numpy(np.asarray(samples / np.maximum(lengths, 1e-12), np.float32))
    weights = torch.from_numpy(np.asarray(lengths[:, 0] ** 2 / (lengths**2).sum(), np.float32))
    matrix = torch.nn.Parameter(torch.from_numpy(start.basis.copy()))
    optimiser = torch.optim.Adam([matrix], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        back = torch.nn.functional.normalize(rows @ matrix @ matrix.T, dim=1)
        loss = (_angles(rows, back) * weights).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    basis = torch.linalg.qr(matrix.detach()).Q
    return FeatureProjection(start.mean, np.asarray(basis.numpy(), np.float32))


def _angles(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.arccos((first * second).sum(1).clamp(-1 + _SLOPE_LIMIT, 1 - _SLOPE_LIMIT))


def lost_degrees(rows: Rows, projection: FeatureProjection) -> float:
    """The mean angle between unit vectors (N, D) and what a projection leaves of them."""
    back = projection.unproject(projection.project(rows))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(back, axis=1)
    cosines = (rows * back).sum(1) / np.maximum(norms, 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())


def save_reducer(path: Path, reducer: Reducer, about: dict[str, Any]) -> None:
    """Write a reducer, whole or not at all.

    Args:
        path: Of the .npz.
        reducer: What is kept.
        about: How it was made, as JSON values.
    """
    page = json.dumps({'identity': reducer.identity, **about})
    stream, arrays = BytesIO(), reducer.projection.to_arrays()
    np.savez(stream, page=np.array(page), mean=arrays['mean'], basis=arrays['basis'])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, stream.getvalue())


def load_reducer(path: Path) -> Reducer:
    """A reducer that `save_reducer` wrote.

    Raises:
        ReducerError: The file is missing, damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            page = json.loads(str(arrays['page']))
            projection = FeatureProjection.from_arrays({n: arrays[n] for n in ('mean', 'basis')})
        return Reducer(projection, str(page['identity']))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ReducerError(
            f'{path} holds no reducer of train_clip_reducer: {type(error).__name__} {error}'
        ) from None
