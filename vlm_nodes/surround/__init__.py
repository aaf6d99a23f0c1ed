"""Surround cameras on disk: what LangOcc and CLIP-VLM read. Pure code, no torch.

from vlm_nodes.surround import NuScenes

drives = NuScenes('/data/nuscenes', version='v1.0-mini', cameras=('CAM_FRONT', 'CAM_BACK'))
keyframe = drives[0]
rgb = read_image(keyframe.cameras['CAM_FRONT'])
"""

from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import CAMERAS, Keyframe, LidarSweep, SurroundImage
from vlm_nodes.surround.nuscenes import NuScenes
from vlm_nodes.surround.occupancy import Occupancy, VoxelGrid, read_occupancy, write_occupancy
from vlm_nodes.surround.sensor_files import read_image, read_points

__all__ = [
    'CAMERAS',
    'Keyframe',
    'LidarSweep',
    'NuScenes',
    'Occupancy',
    'SurroundError',
    'SurroundImage',
    'VoxelGrid',
    'read_image',
    'read_occupancy',
    'read_points',
    'write_occupancy',
]
