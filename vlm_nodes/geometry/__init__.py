"""Cameras, rigid transforms and depth: the pure geometry that every room stands on."""

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.compressed_depth import decode_compressed_depth, unpack_compressed_depth
from vlm_nodes.geometry.depth import depth_to_metres
from vlm_nodes.geometry.frame import RgbdFrame

__all__ = [
    'Camera',
    'RgbdFrame',
    'decode_compressed_depth',
    'depth_to_metres',
    'unpack_compressed_depth',
]
