"""Fitting the projection that features are stored in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection


def fit_reduction(
    features: NDArray[np.float32], texts: NDArray[np.float32], dim: int
) -> FeatureProjection:
    """Directions that hold most of what tells image features apart, and texts apart.

    CLIP's images and texts lie around two different means, far apart. Each group is therefore
    centred about its own mean and both get the same total variance: pooled as they are, the gap
    between the means and the more numerous group would take the directions. The projection's mean
    is that of the features; what the mean says to a text is kept exactly, as a bias.

    Args:
        features: (N, D) image features; may be empty if texts are not.
        texts: (M, D) text embeddings; may be empty if features are not.
        dim: Directions to keep.

    Raises:
        ValueError: There is nothing to fit on.
    """
    groups = [group for group in (features, texts) if len(group)]
    if not groups:
        raise ValueError('there are no features to fit a projection on')
    balanced = []
    for group in groups:
        centred = group - group.mean(axis=0)
        balanced.append(centred / max(float(np.linalg.norm(centred)), 1e-12))
    fitted = FeatureProjection.fit(np.concatenate(balanced), dim)
    return FeatureProjection(groups[0].mean(axis=0), fitted.basis)
