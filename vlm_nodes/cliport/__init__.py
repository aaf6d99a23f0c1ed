"""A table seen from above and an instruction to poses of pick and place (arXiv 2109.12098)."""

from vlm_nodes.cliport.heightmap import Heightmap, View, fuse
from vlm_nodes.cliport.workspace import Workspace

__all__ = ['Heightmap', 'View', 'Workspace', 'fuse']
