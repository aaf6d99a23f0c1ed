"""Cameras, rigid transforms and depth: the pure geometry that every room stands on."""

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.depth import depth_to_metres
from vlm_nodes.geometry.frame import RgbdFrame

__all__ = ['Camera', 'RgbdFrame', 'depth_to_metres']
