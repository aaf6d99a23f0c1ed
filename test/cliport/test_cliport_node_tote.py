"""The real tote over topics: what the node fuses is what the same images make offline.

The network is not trained, so its plan says nothing about the tote; the heightmap does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cliport_rig import UNSURE, cliport_rig, save_model, stamp
from sensor_msgs.msg import Image
from small_cliport import SENTENCE
from test_tote import correction as correction
from test_tote import read_views
from test_tote import tote as tote
from test_tote import workspace as workspace

from vlm_nodes import messages
from vlm_nodes.cliport.heightmap import fuse
from vlm_nodes.node import LATCHED
from vlm_nodes.transforms import matrix_from_transform, transform_message


def bounds(box):
    """Of a workspace, as parameters."""
    ranges = {axis: getattr(box, f'{axis}_range_m') for axis in 'xyz'}
    least = {f'{axis}_min_m': low for axis, (low, _) in ranges.items()}
    return least | {f'{axis}_max_m': high for axis, (_, high) in ranges.items()}


def sent(view, depth_scale=1.0):
    """A view as it arrives: its pose was a quaternion on the way."""
    transform = transform_message('table', 'lens', view.table_from_camera, stamp(1)).transform
    return replace(
        view,
        depth_m=view.depth_m * np.float32(depth_scale),
        table_from_camera=matrix_from_transform(transform),
    )


@pytest.mark.parametrize('is_aligned', [False, True], ids=['as it comes', 'aligned'])
def test_the_tote_over_topics_is_the_tote_offline(
    ros_domain, tmp_path, tote, workspace, correction, is_aligned
):
    first, second = read_views(tote, 'input')
    depth_scale = 1.0
    if is_aligned:
        # As a user would: the pose by tf, the factor by parameter.
        first = replace(first, table_from_camera=correction.apply(first).table_from_camera)
        depth_scale = correction.depth_scale
    options = {
        **bounds(workspace),
        **UNSURE,
        'pixel_m': workspace.pixel_m,
        'depth_scale.first': depth_scale,
    }
    seen = {'first': first, 'second': second}
    with cliport_rig(ros_domain, save_model(tmp_path), seen=seen, **options) as rig:
        colors, heights = [], []
        rig.listen(Image, 'cliport_node/heightmap/color', colors, LATCHED)
        rig.listen(Image, 'cliport_node/heightmap/height', heights, LATCHED)
        answer = rig.ask(SENTENCE)
        rig.until(lambda: colors and heights, 'the heightmap')
        _, values = rig.values()
    assert answer.success or 'its height would be a guess' in answer.message
    offline = fuse([sent(first, depth_scale), sent(second)], workspace)
    np.testing.assert_array_equal(messages.rgb_from_image(colors[0]), offline.color)
    height = np.frombuffer(heights[0].data, np.float32).reshape(workspace.shape)
    np.testing.assert_array_equal(np.isfinite(height), offline.seen)
    np.testing.assert_array_equal(np.nan_to_num(height), offline.height_m)
    assert float(values['coverage']) == pytest.approx(offline.coverage, abs=1e-3)
    apart_mm = float(values['agreement mm first second'])
    if is_aligned:
        assert apart_mm < 5
        assert 'heights of' not in answer.message
    else:
        assert apart_mm > 50
        assert 'heights of first and second differ' in answer.message
