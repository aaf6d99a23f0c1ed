"""Bags that are large for what they say: one colour image, over and over, and two joints."""

from pathlib import Path

import numpy as np
from bag_writing import START_NS, Recorder

PERIOD_NS = 33_000_000


def write_large(path: Path, frames: int) -> Path:
    """A bag of 640x480 images, 0.9 MB each."""
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    with Recorder(path, 'mcap') as bag:
        for number in range(frames):
            stamp = START_NS + number * PERIOD_NS
            bag.write('/camera/color/image_raw', bag.image(stamp, 'cam', image, 'rgb8'), stamp)
            joints = bag.make(
                'sensor_msgs/msg/JointState',
                header=bag.header(stamp, ''),
                name=['a', 'b'],
                position=np.array([0.1, 0.2]) * number,
                velocity=np.zeros(0),
                effort=np.zeros(0),
            )
            bag.write('/joint_states', joints, stamp)
        return bag.path
