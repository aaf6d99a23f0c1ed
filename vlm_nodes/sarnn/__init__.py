"""CLIP-SARNN: camera, touch, joints and a task in words to the next joints."""

from vlm_nodes.sarnn.config import ClipBranchConfig, DepthConfig, SarnnConfig
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.observation import Observation, Prediction, State

__all__ = [
    'ClipBranchConfig',
    'DepthConfig',
    'Observation',
    'Prediction',
    'Sarnn',
    'SarnnConfig',
    'State',
]
