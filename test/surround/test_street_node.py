"""sim_street_node as a process, and an onlooker that listens."""

import numpy as np
from playing import PATIENCE_S, played

from vlm_nodes import messages
from vlm_nodes.simulation.street.recorder import Recorder, Settings, make_scene

TWO = ('CAM_FRONT', 'CAM_BACK_LEFT')
SIZE = {'width': 64, 'height': 32, 'samples': 0, 'keyframes': 2}


def test_streets_are_driven_one_after_the_other():
    options = {**SIZE, 'seed': 1_000_000, 'streets': 2, 'clock': True, 'rate_hz': 10.0}
    module = 'vlm_nodes.simulation.street.node'
    with played(module, TWO, **options) as (graph, listener, process):
        assert process.returncode == 0
        assert 'the end, after 4 moments' in process.output()
        graph.wait(lambda: listener.counts() == [4] * 4, PATIENCE_S, 'all pictures')
        settings = Settings(**SIZE, cameras=TWO)
        scene = make_scene(1_000_001, settings)
        with Recorder(settings) as recorder:
            view = recorder.view(scene, 'CAM_BACK_LEFT', scene.drive.stamp_ns(1))
        last = listener.images['CAM_BACK_LEFT'][-1]
        assert messages.stamp_ns(last.header.stamp) == view.stamp_ns
        np.testing.assert_array_equal(messages.rgb_from_image(last), view.rgb)
        expected = view.map_from_ego @ view.ego_from_camera
        np.testing.assert_allclose(listener.pose(last), expected, atol=1e-6)
