"""A street as a MuJoCo model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.gl import mujoco
from vlm_nodes.simulation.room import Surface
from vlm_nodes.simulation.street.layout import Street
from vlm_nodes.simulation.street.solids import Solid
from vlm_nodes.simulation.textures import surface_texture

_SHAPES: Final = {
    'box': mujoco.mjtGeom.mjGEOM_BOX,
    'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER,
}
FAR_M: Final = 160.0
_MOST_SOLIDS: Final = 1000
_NEAR_M: Final = 0.1
_HORIZON: Final = (0.86, 0.89, 0.92)
_REPEAT_PER_M: Final = 0.5


class StreetWorld:
    """A street that can be rendered.

    Attributes:
        street: what is where.
        model: MuJoCo's model.
        data: MuJoCo's state.
        label_of_geom: (ngeom,) uint16; place of the geom's solid in `street.solids`, plus 1.

    Raises:
        ValueError: the street has more solids than a renderer draws.
    """

    def __init__(self, street: Street) -> None:
        if len(street.solids) > _MOST_SOLIDS:
            raise ValueError(
                f'street {street.seed} has {len(street.solids)} solids, of which renderers draw '
                f'{_MOST_SOLIDS}: make the drive shorter, with fewer keyframes or a lower speed'
            )
        self.street = street
        self.model: Any = _spec(street).compile()
        self.data: Any = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        names = [self.model.geom(i).name for i in range(self.model.ngeom)]
        self.label_of_geom: NDArray[np.uint16] = np.array(
            [int(name) + 1 for name in names], np.uint16
        )


def _spec(street: Street) -> Any:
    spec = mujoco.MjSpec()
    spec.stat.extent = 1.0
    spec.stat.center = (0.0, 0.0, 1.0)
    spec.visual.map.znear, spec.visual.map.zfar = _NEAR_M, FAR_M
    spec.visual.headlight.ambient = (street.ambient,) * 3
    spec.visual.headlight.diffuse = (0.0, 0.0, 0.0)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.worldbody.add_light(
        pos=(0.0, 0.0, 50.0),
        dir=street.sun,
        diffuse=(street.brightness,) * 3,
        ambient=(0.0, 0.0, 0.0),
        specular=(0.0, 0.0, 0.0),
        castshadow=False,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )
    spec.add_texture(
        name='sky',
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=street.sky_rgb,
        rgb2=_HORIZON,
        width=32,
        height=192,
    )
    for place, solid in enumerate(street.solids):
        material = f'{solid.kind} {solid.texture}'
        if solid.texture != 'plain' and not spec.material(material):
            _add_material(spec, material, solid, street.seed)
        spec.worldbody.add_geom(
            name=str(place),
            type=_SHAPES[solid.shape],
            pos=solid.centre,
            size=(solid.half[0], solid.half[2], 0.0) if solid.shape == 'cylinder' else solid.half,
            quat=(np.cos(solid.yaw_rad / 2), 0.0, 0.0, np.sin(solid.yaw_rad / 2)),
            contype=0,
            conaffinity=0,
            **({'rgba': (*solid.rgb, 1.0)} if solid.texture == 'plain' else {'material': material}),
        )
    return spec


def _add_material(spec: Any, name: str, solid: Solid, seed: int) -> None:
    assert solid.texture != 'plain'
    darker = tuple(0.86 * channel for channel in solid.rgb)
    surface = Surface(solid.texture, solid.rgb, (darker[0], darker[1], darker[2]), 1.0, seed)
    image = surface_texture(surface)
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D)
    texture.height, texture.width, texture.nchannel = image.shape
    texture.data = image.tobytes()
    material = spec.add_material(
        name=name, texrepeat=(_REPEAT_PER_M, _REPEAT_PER_M), texuniform=True, specular=0.0
    )
    textures = material.textures
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name
    material.textures = textures
