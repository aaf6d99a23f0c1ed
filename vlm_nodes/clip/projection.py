"""Fewer numbers per feature: a linear projection that keeps text . feature."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FeatureProjection:
    """Orthonormal projection of D-dimensional features onto k directions, about a mean.

    `z = (f - mean) basis` and `f ~= mean + z basis^T`, so that for a text vector `t`
    `t . f ~= (t basis) . z + t . mean`: a query costs k products a feature, not D.

    Attributes:
        mean: (D,) float32, subtracted before projecting.
        basis: (D, k) float32, orthonormal columns, the direction of largest variance first.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check shapes, finite numbers and orthonormal columns.

        Raises:
            ValueError: one of them does not hold.
        """
        mean, basis = np.asarray(self.mean), np.asarray(self.basis)
        if mean.ndim != 1 or basis.ndim != 2 or basis.shape[0] != mean.shape[0]:
            raise ValueError(
                f'mean must be (D,) and basis (D, k), got mean {mean.shape} and basis {basis.shape}'
            )
        if not 1 <= basis.shape[1] <= basis.shape[0]:
            raise ValueError(f'k must be between 1 and D, got basis {basis.shape}')
        if not (np.isfinite(mean).all() and np.isfinite(basis).all()):
            raise ValueError('mean and basis must be finite')
        gram = basis.astype(np.float64).T @ basis.astype(np.float64)
        if np.abs(gram - np.eye(len(gram))).max() > 1e-3:
            raise ValueError('the columns of basis must be orthonormal')
        object.__setattr__(self, 'mean', np.ascontiguousarray(mean, dtype=np.float32))
        object.__setattr__(self, 'basis', np.ascontiguousarray(basis, dtype=np.float32))

    @property
    def dim(self) -> int:
        """D, the numbers of a full feature."""
        return int(self.basis.shape[0])

    @property
    def reduced_dim(self) -> int:
        """k, the numbers of a projected feature."""
        return int(self.basis.shape[1])

    @classmethod
    def fit(
        cls, samples: NDArray[np.floating], k: int, *, centred: bool = True
    ) -> 'FeatureProjection':
        """Principal directions of samples, their mean subtracted.

        Text embeddings and image features may be mixed: stack them. Where the samples span fewer
        than k directions, the rest are any orthonormal ones.

        Args:
            samples: (N, D) finite numbers, N >= 1; rows are features.
            k: directions kept, 1 <= k <= D.
            centred: subtract the mean; without, it is 0, and the cosine of two projections is
                about that of the features, so that unit vectors stay comparable.

        Returns:
            The projection that minimises the squared reconstruction error of the samples
            (Eckart-Young).

        Raises:
            ValueError: wrong shape, k out of range, or numbers that are not finite.
        """
        data = np.asarray(samples, dtype=np.float64)
        if data.ndim != 2 or len(data) == 0:
            raise ValueError(f'samples must be (N, D) with N >= 1, got {data.shape}')
        if not 1 <= k <= data.shape[1]:
            raise ValueError(f'k must be between 1 and D = {data.shape[1]}, got {k}')
        if not np.isfinite(data).all():
            raise ValueError('samples hold NaN or infinite numbers')
        mean = data.mean(axis=0) if centred else np.zeros(data.shape[1])
        covariance = (data - mean).T @ (data - mean)
        _, vectors = np.linalg.eigh(covariance)  # ascending
        return cls(mean.astype(np.float32), vectors[:, ::-1][:, :k].astype(np.float32))

    def project(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Full features to reduced ones.

        Args:
            features: (..., D).

        Returns:
            (..., k) float32.

        Raises:
            ValueError: the last axis is not D.
        """
        full = self._checked(features, self.dim, 'features')
        projected: NDArray[np.float32] = full @ self.basis - self.mean @ self.basis
        return projected

    def unproject(self, reduced: NDArray[np.floating]) -> NDArray[np.float32]:
        """Reduced features back to full ones; exact within the kept directions.

        Args:
            reduced: (..., k).

        Returns:
            (..., D) float32.

        Raises:
            ValueError: the last axis is not k.
        """
        full: NDArray[np.float32] = (
            self._checked(reduced, self.reduced_dim, 'reduced') @ self.basis.T + self.mean
        )
        return full

    def project_text(
        self, text: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Text vectors in the form that scores reduced features.

        Args:
            text: (N, D).

        Returns:
            weights (N, k) and bias (N,), float32: `text . f ~= weights . project(f) + bias`.

        Raises:
            ValueError: the last axis is not D.
        """
        vectors = self._checked(text, self.dim, 'text')
        return vectors @ self.basis, vectors @ self.mean

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """The projection as named arrays, for a file."""
        return {'mean': self.mean, 'basis': self.basis}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.floating]]) -> 'FeatureProjection':
        """Inverse of `to_arrays`.

        Raises:
            ValueError: an array is missing or does not fit.
        """
        missing = {'mean', 'basis'} - set(arrays)
        if missing:
            raise ValueError(
                f'a feature projection needs mean and basis; missing: {sorted(missing)}'
            )
        return cls(np.asarray(arrays['mean']), np.asarray(arrays['basis']))

    @staticmethod
    def _checked(array: NDArray[np.floating], size: int, name: str) -> NDArray[np.float32]:
        checked = np.asarray(array, dtype=np.float32)
        if checked.ndim < 1 or checked.shape[-1] != size:
            raise ValueError(f'{name} must be (..., {size}), got {checked.shape}')
        return checked
