"""CLIP-SARNN: camera, touch, joints and a task in words to the next joints."""

from vlm_nodes.sarnn.checkpoint import CheckpointError, load_policy, save_policy
from vlm_nodes.sarnn.config import ClipBranchConfig, DepthConfig, SarnnConfig, TextConfig
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.observation import Observation, Prediction, State
from vlm_nodes.sarnn.preprocess import PatchFeatures, Preprocessor

__all__ = [
    'CheckpointError',
    'ClipBranchConfig',
    'DepthConfig',
    'Observation',
    'PatchFeatures',
    'Prediction',
    'Preprocessor',
    'Sarnn',
    'SarnnConfig',
    'State',
    'TextConfig',
    'load_policy',
    'save_policy',
]
