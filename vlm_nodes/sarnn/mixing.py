"""A model's own predictions fed back to it, to any share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vlm_nodes.sarnn.observation import Observation, Prediction


def check_share(measured: float) -> None:
    """Refuse a share of the measurement that is none.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if not (math.isfinite(measured) and 0 <= measured <= 1):
        raise ValueError(f'measured = {measured} must be between 0 and 1')


def mix(measurement: Tensor, prediction: Tensor, measured: float) -> Tensor:
    """`measured` of the one and the rest of the other."""
    prediction = prediction.to(measurement.dtype)  # autocast predicts in fewer bits
    # Not the mix with a factor of 0: a sensor that says NaN must not be heard.
    return prediction if measured == 0 else measurement.lerp(prediction, 1 - measured)


def mix_named(
    measurements: Mapping[str, Tensor], predictions: Mapping[str, Tensor], measured: float
) -> dict[str, Tensor]:
    """Each measurement mixed with the prediction of the same name."""
    return {name: mix(value, predictions[name], measured) for name, value in measurements.items()}


def mix_observation(
    observation: Observation, predicted: Prediction, measured: float
) -> Observation:
    """An observation whose joints and images are mixed with those predicted of it.

    Raises:
        ValueError: The prediction lacks the images.
    """
    if set(observation.images) != set(predicted.images):
        raise ValueError('measured < 1 feeds images back: decode those of all ticks')
    # A decoder's output has no bounds, an image has.
    images = {name: image.clamp(0, 1) for name, image in predicted.images.items()}
    return replace(
        observation,
        joints=mix(observation.joints, predicted.joints, measured),
        images=mix_named(observation.images, images, measured),
    )
