"""Colour, depth and label images of a world from a pinhole camera, off-screen."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation.gl import current, make_context, mujoco


class Drawable(Protocol):
    """A world that can be drawn.

    Attributes:
        model: MuJoCo's model.
        data: MuJoCo's state, with its kinematics up to date.
    """

    model: Any
    data: Any


class Labelled(Drawable, Protocol):
    """A world whose parts have labels.

    Attributes:
        label_of_geom: (ngeom,) uint16 label of every geom.
    """

    label_of_geom: NDArray[np.uint16]


@dataclass(frozen=True)
class View:
    """What a camera sees.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 metres along the camera's z; +inf where nothing is hit (REP-117).
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]


class Renderer:
    """Renders worlds. Holds one GL context; use it from one thread at a time.

    Args:
        width: largest image width in pixels.
        height: largest image height in pixels.
        samples: per pixel for smooth edges of the colour image; 0 is fastest.

    Raises:
        RenderingUnavailableError: if GL cannot start.
    """

    def __init__(self, width: int, height: int, samples: int = 4) -> None:
        if width <= 0 or height <= 0:
            raise ValueError(f'image size must be positive, is {width}x{height}')
        self._width, self._height, self._samples = width, height, samples
        self._gl: Any = make_context(width, height)
        self._world: Drawable | None = None
        self._scene: Any = None
        self._context: Any = None
        self._option: Any = mujoco.MjvOption()

    def __enter__(self) -> 'Renderer':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees GL; the renderer cannot be used afterwards."""
        if self._gl is None:
            return
        with current(self._gl):
            self._free_context()
        self._gl.free()
        self._gl = None

    def render(self, world: Drawable, camera: Camera, map_from_camera: NDArray[np.float64]) -> View:
        """The view of a camera.

        Args:
            world: what is seen, as it is now.
            camera: without distortion, not larger than the renderer.
            map_from_camera: (4, 4) pose of the optical frame (x right, y down, z forward).

        Raises:
            ValueError: if the camera is distorted or too large.
            RuntimeError: if the renderer is closed.
        """
        self._check(camera)
        rgb = np.empty((camera.height, camera.width, 3), np.uint8)
        z_buffer = np.empty((camera.height, camera.width), np.float32)
        with current(self._gl):
            self._show(world)
            self._aim(camera, map_from_camera)
            self._draw(rgb, z_buffer)
        return View(np.ascontiguousarray(rgb[::-1]), self._metres(z_buffer[::-1]))

    def render_labels(
        self, world: Labelled, camera: Camera, map_from_camera: NDArray[np.float64]
    ) -> NDArray[np.uint16]:
        """The labels that a camera sees, (H, W) uint16 of the world's `label_of_geom`.

        0 where nothing is hit.

        Takes and raises what `render` does.
        """
        self._check(camera)
        painted = np.empty((camera.height, camera.width, 3), np.uint8)
        with current(self._gl):
            self._show(world)
            self._aim(camera, map_from_camera)
            flags = self._scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
            self._draw(painted, None)
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        number = painted[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        return self._label_of_number(world)[number]

    def _check(self, camera: Camera) -> None:
        if self._gl is None:
            raise RuntimeError('the renderer is closed')
        if camera.is_distorted:
            raise ValueError('a distorted camera cannot be rendered')
        if camera.width > self._width or camera.height > self._height:
            raise ValueError(
                f'camera is {camera.width}x{camera.height}, '
                f'the renderer holds at most {self._width}x{self._height}'
            )

    def _draw(self, rgb: NDArray[np.uint8], z_buffer: NDArray[np.float32] | None) -> None:
        """Renders into (H, W, 3) and, if given, (H, W), both bottom row first."""
        rect = mujoco.MjrRect(0, 0, rgb.shape[1], rgb.shape[0])
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, z_buffer, rect, self._context)

    def _show(self, world: Drawable) -> None:
        """Loads a world's textures and meshes if it is another one, and its objects' places."""
        if world is not self._world:
            self._free_context()
            world.model.vis.global_.offwidth = self._width
            world.model.vis.global_.offheight = self._height
            world.model.vis.quality.offsamples = self._samples
            self._context = mujoco.MjrContext(world.model, mujoco.mjtFontScale.mjFONTSCALE_50)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
            self._scene = mujoco.MjvScene(world.model, maxgeom=1000)
            self._world = world
        mujoco.mjv_updateScene(
            world.model,
            world.data,
            self._option,
            None,
            mujoco.MjvCamera(),
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )

    def _free_context(self) -> None:
        """Frees what belongs to the world shown; GL must be current."""
        if self._context is not None:
            self._context.free()
        self._context, self._scene, self._world = None, None, None

    def _aim(self, camera: Camera, map_from_camera: NDArray[np.float64]) -> None:
        near, far = self._clip_m()
        # Pixel centres are whole numbers, so the image's edges lie half a pixel outside.
        left, right = -(camera.cx + 0.5) / camera.fx, (camera.width - 0.5 - camera.cx) / camera.fx
        top, bottom = (camera.cy + 0.5) / camera.fy, -(camera.height - 0.5 - camera.cy) / camera.fy
        for eye in self._scene.camera:
            eye.pos = map_from_camera[:3, 3]
            eye.forward = map_from_camera[:3, 2]
            eye.up = -map_from_camera[:3, 1]
            eye.frustum_near, eye.frustum_far = near, far
            eye.frustum_bottom, eye.frustum_top = bottom * near, top * near
            eye.frustum_center = (left + right) / 2 * near
            eye.frustum_width = (right - left) / 2 * near

    def _clip_m(self) -> tuple[float, float]:
        assert self._world is not None
        planes, extent = self._world.model.vis.map, self._world.model.stat.extent
        return planes.znear * extent, planes.zfar * extent

    def _metres(self, z_buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undoes the reversed perspective depth: 1 is the near plane, 0 the far plane."""
        near, far = (float(np.float32(plane)) for plane in self._clip_m())
        with np.errstate(divide='ignore'):
            metres = near * far / (near + z_buffer.astype(np.float64) * (far - near))
        metres[z_buffer <= 0] = np.inf
        depth: NDArray[np.float32] = metres.astype(np.float32)
        return depth

    def _label_of_number(self, world: Labelled) -> NDArray[np.uint16]:
        geoms = [geom for geom in self._scene.geoms[: self._scene.ngeom] if geom.segid >= 0]
        table = np.zeros(self._scene.ngeom + 1, np.uint16)
        for geom in geoms:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = world.label_of_geom[geom.objid]
        return table
