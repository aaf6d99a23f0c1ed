"""The arm, its table and what lies on it, as a MuJoCo model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vlm_nodes.simulation.arm import kinematics as arm
from vlm_nodes.simulation.arm.placement import BALL_RADIUS_M, BOX_HALF_M
from vlm_nodes.simulation.arm.tasks import BLUE_BALL, GREEN_BOX, RED_BALL
from vlm_nodes.simulation.gl import mujoco
from vlm_nodes.simulation.looks import TRAIN_HUES, random_surface
from vlm_nodes.simulation.room import Rgb, Surface
from vlm_nodes.simulation.textures import surface_texture
from vlm_nodes.simulation.vocabulary import COLOUR_RGB

TIMESTEP_S: Final = 0.002

TIP: Final = 'fingertip'
TIP_AXES: Final = ('tip_x', 'tip_y', 'tip_z')
RAIL: Final = 'rail'
WRIST: Final = 'wrist'

TIP_STIFFNESS_N_M: Final = 400.0
_TIP_DAMPING: Final = 5.0
_TIP_MASS_KG: Final = 0.02
_BOX_MASS_KG: Final = 0.15
_BOX_FRICTION_N: Final = 0.8
_BOX_DAMPING: Final = 2.0
_RAIL_BEHIND_M: Final = 0.03

_STIFFNESS: Final = (400.0, 400.0, 300.0, 60.0)
_DAMPING: Final = (16.0, 16.0, 10.0, 1.5)
_ARMATURE: Final = (0.05, 0.05, 0.03, 0.01)

_TABLE_HALF_M: Final = (0.34, 0.45, 0.03)
_TABLE_CENTRE: Final = (0.32, 0.0)
_FLOOR_M: Final = -0.60
_GREY: Final[Rgb] = (0.62, 0.62, 0.64)
_DARK: Final[Rgb] = (0.16, 0.16, 0.18)

# The fingertip collides with the table and what lies on it, nothing else with anything.
_FELT: Final = {'contype': 0, 'conaffinity': 1}
_FEELS: Final = {'contype': 1, 'conaffinity': 0}
_PASSES: Final = {'contype': 0, 'conaffinity': 0}


def make_model(look_seed: int) -> Any:
    """The compiled model; scenes differ in the places of its bodies alone.

    Args:
        look_seed: of the table's and the floor's look.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # What is drawn from: 5 cm to 25 m, whatever the extent of the model.
    spec.stat.extent = 1.0
    spec.visual.map.znear = 0.05
    spec.visual.map.zfar = 25.0
    spec.visual.headlight.ambient = (0.45,) * 3
    spec.visual.headlight.diffuse = (0.0,) * 3
    spec.visual.headlight.specular = (0.0,) * 3
    rng = np.random.default_rng([look_seed, 42])
    _add_surroundings(spec, rng)
    _add_things(spec)
    _add_arm(spec)
    return spec.compile()


def _add_surroundings(spec: Any, rng: np.random.Generator) -> None:
    for direction, strength in (((-0.5, 0.35, -1.0), 0.5), ((0.6, -0.5, -0.8), 0.2)):
        spec.worldbody.add_light(
            dir=direction,
            diffuse=(strength,) * 3,
            ambient=(0.0,) * 3,
            specular=(0.3 * strength,) * 3,
            castshadow=False,
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        )
    table = _add_surface(spec, 'table', random_surface(rng, TRAIN_HUES, (0.55, 0.75)))
    floor = _add_surface(spec, 'floor', random_surface(rng, TRAIN_HUES, (0.4, 0.6)))
    spec.worldbody.add_geom(
        name='table',
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(*_TABLE_CENTRE, -_TABLE_HALF_M[2]),
        size=_TABLE_HALF_M,
        material=table,
        **_FELT,
    )
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=(0.0, 0.0, _FLOOR_M),
        size=(4.0, 4.0, 0.05),
        material=floor,
        **_PASSES,
    )


def _add_surface(spec: Any, name: str, surface: Surface) -> str:
    image = surface_texture(surface)
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D)
    texture.height, texture.width, texture.nchannel = image.shape
    texture.data = image.tobytes()
    repeat = surface.repeat_per_m
    material = spec.add_material(
        name=name, texrepeat=(repeat, repeat), texuniform=True, specular=0.1, shininess=0.1
    )
    textures = material.textures
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name
    material.textures = textures
    return name


def _add_things(spec: Any) -> None:
    for label in (RED_BALL, BLUE_BALL):
        body = spec.worldbody.add_body(name=label)
        _add_geom(body, 'SPHERE', (BALL_RADIUS_M, 0, 0), _colour(label), **_FELT)
    box = spec.worldbody.add_body(name=GREEN_BOX, gravcomp=1.0)
    box.add_joint(
        name=RAIL,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(0, -1, 0),
        range=(-_RAIL_BEHIND_M, 1.0),
        limited=True,
        frictionloss=_BOX_FRICTION_N,
        damping=_BOX_DAMPING,
        solref_limit=(2.5 * TIMESTEP_S, 1.0),
    )
    half = (BOX_HALF_M,) * 3
    _add_geom(box, 'BOX', half, _colour(GREEN_BOX), name=GREEN_BOX, mass=_BOX_MASS_KG, **_FELT)


def _colour(label: str) -> Rgb:
    return COLOUR_RGB[label.split()[0]]


def _add_arm(spec: Any) -> None:
    """A column, two links and a finger, each turned by one of `JOINTS`; gravity is held off."""
    height = arm.SHOULDER_HEIGHT_M
    column = _add_link(spec, spec.worldbody, 0, (0, 0, 0), (0, 0, 1))
    _add_geom(column, 'CYLINDER', (0.045, height / 2, 0), _GREY, pos=(0, 0, height / 2), mass=1.0)
    upper = _add_link(spec, column, 1, (0, 0, height), (0, -1, 0))
    _add_bar(upper, arm.UPPER_ARM_M, 0.024, _GREY, mass=0.6)
    forearm = _add_link(spec, upper, 2, (arm.UPPER_ARM_M, 0, 0), (0, -1, 0))
    _add_bar(forearm, arm.FOREARM_M, 0.018, _GREY, mass=0.4)
    finger = _add_link(spec, forearm, 3, (arm.FOREARM_M, 0, 0), (0, -1, 0))
    fromto = (0, 0, 0, 0, 0, -arm.FINGER_M + 0.02)
    _add_geom(finger, 'CAPSULE', (0.010, 0, 0), _DARK, fromto=fromto, mass=0.1)
    _add_tip(finger)


def _add_link(spec: Any, parent: Any, index: int, pos: Any, axis: Any) -> Any:
    name = arm.JOINTS[index]
    body = parent.add_body(name=name, pos=pos, gravcomp=1.0)
    body.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=axis,
        range=(arm.LOWER_RAD[index], arm.UPPER_RAD[index]),
        limited=True,
        armature=_ARMATURE[index],
    )
    actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=_STIFFNESS[index], kv=_DAMPING[index])
    return body


def _add_tip(finger: Any) -> None:
    """A ball on springs: how far they give is the force on it."""
    tip = finger.add_body(name=TIP, pos=(0, 0, -arm.FINGER_M), gravcomp=1.0)
    for name, axis in zip(TIP_AXES, np.eye(3), strict=True):
        tip.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            stiffness=TIP_STIFFNESS_N_M,
            damping=_TIP_DAMPING,
        )
    _add_geom(tip, 'SPHERE', (arm.TIP_RADIUS_M, 0, 0), _DARK, name=TIP, mass=_TIP_MASS_KG, **_FEELS)


def _add_bar(body: Any, length_m: float, radius_m: float, rgb: Rgb, *, mass: float) -> None:
    _add_geom(body, 'CAPSULE', (radius_m, 0, 0), rgb, fromto=(0, 0, 0, length_m, 0, 0), mass=mass)


def _add_geom(body: Any, shape: str, size: Any, rgb: Rgb, **options: Any) -> None:
    body.add_geom(
        type=getattr(mujoco.mjtGeom, f'mjGEOM_{shape}'),
        size=size,
        rgba=(*rgb, 1.0),
        solref=(3 * TIMESTEP_S, 1.0),
        **(_PASSES | options),
    )
