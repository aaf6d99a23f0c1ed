"""Surround pictures played by a node's process, and what a listener hears of them."""

import threading
from contextlib import contextmanager

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_ros import Buffer, TransformListener

from vlm_nodes import messages
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.transforms import lookup_matrix

PATIENCE_S = 90.0
DEEP = QoSProfile(depth=100)


class Listener:
    """Keeps all that is published of some cameras.

    Attributes:
        images: Messages by camera.
        infos: Messages by camera.
    """

    def __init__(self, node, cameras, compressed=False):
        self.images = {name: [] for name in cameras}
        self.infos = {name: [] for name in cameras}
        self.buffer = Buffer()
        self._listener = TransformListener(self.buffer, node)
        kind, end = (CompressedImage, '/compressed') if compressed else (Image, '')
        for name in cameras:
            heard = self.images[name].append
            node.create_subscription(kind, f'{name}/image_raw{end}', heard, DEEP)
            node.create_subscription(
                CameraInfo, f'{name}/camera_info', self.infos[name].append, DEEP
            )

    def counts(self):
        return [len(heard) for heard in (*self.images.values(), *self.infos.values())]

    def pose(self, message, parent='map'):
        """(4, 4) of a message's frame at its stamp."""
        header = message.header
        return lookup_matrix(
            self.buffer, parent, header.frame_id, header.stamp, PATIENCE_S, threading.Event()
        )


@contextmanager
def played(module, cameras, compressed=False, **parameters):
    """A player's process and a listener, after it ended by itself."""
    with LiveGraph() as graph:
        listener = Listener(graph.node, cameras, compressed)
        process = graph.start('player', module, {'cameras': list(cameras), **parameters})
        graph.wait(lambda: process.returncode is not None, PATIENCE_S, 'the end of the drive')
        yield graph, listener, process


def stamps(heard):
    return [messages.stamp_ns(message.header.stamp) for message in heard]
