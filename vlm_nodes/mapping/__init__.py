"""Posed RGB-D to an open-vocabulary voxel map, and text queries to places in it."""

from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.floor_plan import FloorPlan, FloorRegion, OccupancyGrid
from vlm_nodes.mapping.fusion_report import FusionReport
from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.mapping.map_file import MapFileError
from vlm_nodes.mapping.query import DEFAULT_NEGATIVES
from vlm_nodes.mapping.text_encoder import TextEncoder
from vlm_nodes.mapping.voxel_map import VoxelMap

__all__ = [
    'DEFAULT_NEGATIVES',
    'FloorPlan',
    'FloorRegion',
    'FusionReport',
    'MapFileError',
    'MapMatch',
    'OccupancyGrid',
    'TextEncoder',
    'VoxelMap',
    'VoxelMapConfig',
]
