import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.geometry import Camera

LENSES = [
    ('', ()),
    ('plumb_bob', (0.1, -0.05, 0.001, -0.002, 0.01)),
    ('rational_polynomial', (0.2, 0.05, 0.001, -0.001, 0.01, 0.3, 0.02, 0.005)),
    (
        'rational_polynomial',
        (0.2, 0.05, 0.001, -0.001, 0.01, 0.3, 0.02, 0.005, 0.001, 0.0, 0.002, 0.0),
    ),
    ('equidistant', (0.05, -0.01, 0.002, -0.0005)),
]


@pytest.mark.parametrize(('model', 'coefficients'), LENSES)
def test_every_ray_projects_back_to_its_pixel(model, coefficients):
    camera = Camera(64, 48, 60.0, 62.0, 30.0, 25.0, model, coefficients)
    rays = camera.rays().reshape(-1, 2)
    z = np.linspace(0.5, 4.0, len(rays))[:, None]
    pixels = camera.project(np.hstack([rays * z, z]))
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    assert np.abs(pixels - np.stack([u.ravel(), v.ravel()], axis=-1)).max() < 0.01


def test_projection_by_hand():
    camera = Camera(640, 480, 500.0, 400.0, 320.0, 240.0)
    assert camera.project([[0.2, -0.1, 2.0]]).tolist() == [[370.0, 220.0]]


def test_points_behind_the_camera_have_no_pixel():
    camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    assert np.isnan(camera.project([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])).all()


def test_vertical_field_of_view_of_a_real_camera():
    # 79 degrees across 640x480 is 63.45 degrees down, not 79 * 480 / 640.
    camera = Camera.from_fov(640, 480, math.radians(63.45))
    assert math.degrees(2 * math.atan(320 / camera.fx)) == pytest.approx(79.0, abs=0.01)


@given(st.integers(1, 8), st.integers(1, 8))
def test_resizing_keeps_rays_of_the_image_corners(kx, ky):
    camera = Camera(64, 48, 60.0, 62.0, 30.0, 25.0)
    small = camera.resized(8 * kx, 6 * ky)
    corner = np.array([[-0.5 - 30.0, -0.5 - 25.0]]) / (60.0, 62.0)  # the image's outer corner
    pixel = small.project(np.hstack([corner, [[1.0]]]))
    assert pixel == pytest.approx(np.array([[-0.5, -0.5]]), abs=1e-9)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'fx': 0.0}, 'fx = 0.0'),
        ({'fy': math.nan}, 'fy = nan'),
        ({'width': 0}, '0x48'),
        ({'cx': math.inf}, 'cx inf'),
        ({'distortion_model': 'fisheye62'}, 'fisheye62'),
        ({'distortion': (0.1, 0.2)}, '2'),
    ],
)
def test_bad_calibration_is_named(change, said):
    good = {'width': 64, 'height': 48, 'fx': 60.0, 'fy': 60.0, 'cx': 32.0, 'cy': 24.0}
    with pytest.raises(ValueError, match=said):
        Camera(**{**good, **change})
