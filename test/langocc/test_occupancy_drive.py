"""occupancy_node as a process beside a player: a simulated drive, and the real keyframe."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from occupancy_rig import PATIENT
from sensor_msgs.msg import PointCloud2
from small_langocc import save_small
from vlm_interfaces.srv import QueryOccupancy

from vlm_nodes import messages
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.observer import Observer, ObserverConfig
from vlm_nodes.node import LATCHED
from vlm_nodes.surround import CAMERAS, NuScenes, read_image
from vlm_nodes.surround.keyframe_file import read_keyframe_file

PATIENCE_S = 90.0
LOOPED = {'loop': True, 'rate_hz': 4.0}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp('langocc') / 'run')


class Onlooker:
    """Hears what the node says."""

    def __init__(self, graph):
        self.graph, self.clouds, self.diagnostics = graph, [], []
        listen = graph.node.create_subscription
        listen(PointCloud2, 'occupancy_node/occupancy', self.clouds.append, LATCHED)
        listen(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)

    def values(self):
        return messages.diagnostics_values(self.diagnostics[-1].status[0])[1]

    def hears(self, moments):
        """Wait until pictures of all six cameras are used, and for a cloud of such a moment."""
        self.says('cameras used', ' '.join(CAMERAS))
        self.graph.wait(
            lambda: self.clouds and any(same(self.clouds[-1], moment) for moment in moments),
            PATIENCE_S,
            'a cloud of what is there',
        )

    def says(self, key, value):
        """Wait until diagnostics have such a value."""
        self.graph.wait(
            lambda: self.diagnostics and self.values()[key] == value, PATIENCE_S, f'{key} {value}'
        )


def start(graph, checkpoint, data, **node):
    onlooker = Onlooker(graph)
    # Of tf less so: if it misses one moment's poses, the next one's are there.
    patience = PATIENT | {'tf_timeout_s': 5.0}
    parameters = {'checkpoint': str(checkpoint), 'fixed_frame': 'map', **patience}
    graph.start('occupancy', 'vlm_nodes.langocc.node', {**parameters, **node})
    graph.start('player', 'vlm_nodes.surround.player.node', {'data': str(data), **LOOPED})
    return onlooker


def looked_at(checkpoint, keyframe):
    """What the network says of a keyframe, in the vehicle's frame at the last picture's stamp."""
    last = max(keyframe.cameras.values(), key=lambda image: image.stamp_ns)
    views = {
        name: RigView(image.camera, invert(last.map_from_ego) @ image.map_from_camera)
        for name, image in keyframe.cameras.items()
    }
    images = {name: read_image(image) for name, image in keyframe.cameras.items()}
    return Observer(ObserverConfig(checkpoint)).look(images, views)


def same(cloud, moment):
    points, values = messages.cloud_arrays(cloud)
    return (
        points.shape == moment.voxels.points_m.shape
        and np.allclose(points, moment.voxels.points_m, atol=1e-4)
        and np.allclose(values['density'], moment.voxels.density, rtol=1e-2)
    )


def test_a_simulated_drive_is_seen_and_asked_about(street, checkpoint):
    moments = [looked_at(checkpoint, keyframe) for keyframe in NuScenes(street)]
    with LiveGraph() as graph:
        onlooker = start(graph, checkpoint, street)
        onlooker.hears(moments)
        request = QueryOccupancy.Request(texts=['red mug'])
        answer, _ = graph.call(QueryOccupancy, 'occupancy_node/query', request)
        assert answer.success, answer.message
        assert len(answer.positions) == 1


def test_the_real_keyframe_is_seen_over_topics(vlm_data, checkpoint):
    path = vlm_data / 'nuscenes_keyframe' / 'keyframe.json'
    if not path.is_file():
        pytest.skip(f'no {path}')
    moment = looked_at(checkpoint, read_keyframe_file(path)[0])
    with LiveGraph() as graph:
        onlooker = start(graph, checkpoint, path)
        onlooker.hears([moment])
        assert len(moment.voxels) > 100
        onlooker.says('occupied voxels', str(len(moment.voxels)))
