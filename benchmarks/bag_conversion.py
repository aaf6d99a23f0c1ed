"""How fast and how lean rosbag2npz is, against reading and decoding the same bag.

600 frames of 640x480 RGB and depth, two JPEG streams and joints at 100 Hz, in an mcap. Each of

* (a) reading and deserialising with rosbags,
* (b) that, and decoding everything,
* (c) rosbag2npz to an uncompressed .npz, what its writer takes measured apart,

runs in a process of its own, on one thread, in turns. Times are CPU seconds,
which a busy machine does not change much; the speed of two workers (six bags, images resized to
192x192) is by the wall clock, and means something only where two cores are free. Peak memory is
that of (c) with the interpreter and all imports in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from bag_tools.bag_files import bag_digest
from bag_tools.batch import run_all
from bag_tools.convert import Job, convert
from bag_tools.decode import color_image, depth_millimetres
from bag_tools.settings import Settings, default_settings
from bag_tools.stored_zip import StoredNpz

START_NS = 1_700_000_000_000_000_000
COLOR, DEPTH = '/camera/color/image_raw', '/camera/depth/image_rect_raw'
GELSIGHTS = ('/gelsight1/raspicam_node/image/compressed', '/gelsight2/image/compressed')
JOINTS = '/joint_states'
ONE_THREAD = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
STORE = get_typestore(Stores.ROS2_JAZZY)


def header(stamp_ns: int) -> Any:
    types = STORE.types
    stamp = types['builtin_interfaces/msg/Time'](stamp_ns // 10**9, stamp_ns % 10**9)
    return types['std_msgs/msg/Header'](stamp, '')


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """Something like a photograph: smooth, with grain, so that a JPEG of it has a usual size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 16, width // 16, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 4, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def write_bag(path: Path, frames: int, seed: int) -> None:
    """Write the recording."""
    images = [texture(seed * 100 + i, 480, 640) for i in range(8)]
    depths = [image[..., 0].astype(np.uint16) * 12 + 400 for image in images]
    touches = [cv2.imencode('.jpg', texture(50 + i, 240, 320))[1].ravel() for i in range(8)]
    types = STORE.types
    events: list[tuple[int, str, Any]] = []
    for i in range(frames):
        stamp = START_NS + i * 10**9 // 30
        events.append((stamp, COLOR, lambda s, i=i: image(s, images[i % 8], 'rgb8')))
        events.append((stamp + 10**6, DEPTH, lambda s, i=i: image(s, depths[i % 8], '16UC1')))
        for j, topic in enumerate(GELSIGHTS):
            make = lambda s, i=i: types['sensor_msgs/msg/CompressedImage'](  # noqa: E731
                header(s), 'jpeg', touches[i % 8]
            )
            events.append((stamp + (2 + j) * 10**6, topic, make))
    names = [f'joint{k}' for k in range(7)]
    for i in range(frames * 100 // 30):
        stamp = START_NS + i * 10**7
        values = np.sin(0.01 * i + 0.3 * np.arange(7))
        make = lambda s, v=values: types['sensor_msgs/msg/JointState'](  # noqa: E731
            header(s), names, v, v, v
        )
        events.append((stamp, JOINTS, make))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for stamp, topic, make in sorted(events, key=lambda event: event[0]):
            message = make(stamp)
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], stamp + 10**6, STORE.serialize_cdr(message, kind))


def image(stamp_ns: int, array: np.ndarray, encoding: str) -> Any:
    return STORE.types['sensor_msgs/msg/Image'](
        header(stamp_ns),
        array.shape[0],
        array.shape[1],
        encoding,
        0,
        array.strides[0],
        array.reshape(-1).view(np.uint8),
    )


def read(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)


def decode(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            if connection.topic == DEPTH:
                depth_millimetres(message)
            elif connection.topic != JOINTS:
                color_image(message)


def job(bag: Path, out: Path, name: str = 'episode') -> Job:
    return Job(bag, name, out, default_settings(), pictures=False)


class WriteTimer:
    """CPU seconds that the .npz's writer takes: checksums, system calls and flushing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ('allocate', 'write_row', 'write_array', 'close'):
            setattr(StoredNpz, name, self._timed(getattr(StoredNpz, name)))
        self._depth = 0

    def _timed(self, method: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            began = time.process_time()
            self._depth += 1
            method(*arguments)
            self._depth -= 1
            # write_array writes its row through write_row, which must not count twice.
            self.seconds += 0.0 if self._depth else time.process_time() - began

        return run


def peak_bytes() -> int:
    """This process's peak memory; ru_maxrss would count that of the process it was forked from."""
    status = Path('/proc/self/status').read_text(encoding='ascii')
    return int(status.partition('VmHWM:')[2].split()[0]) * 1024


def measure(task: str, bag: Path, out: Path) -> dict[str, float]:
    """One task in this process: its CPU and wall seconds, and the memory it took."""
    cv2.setNumThreads(1)
    tasks = {
        'nothing': lambda: None,
        'read': lambda: read(bag),
        'decode': lambda: decode(bag),
        'digest': lambda: bag_digest(bag),
        'convert': lambda: convert(job(bag, out)),
    }
    timer = WriteTimer()
    cpu, wall = time.process_time(), time.perf_counter()
    tasks[task]()
    return {
        'cpu': time.process_time() - cpu,
        'wall': time.perf_counter() - wall,
        'write': timer.seconds,
        'peak': peak_bytes(),
    }


def apart(task: str, bag: Path, out: Path) -> SimpleNamespace:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, '--task', task, str(bag), str(out)]
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return SimpleNamespace(**json.loads(done.stdout))


def small() -> Settings:
    """Images as they are trained on: so the disk does not decide what two workers are worth."""
    settings = default_settings()
    streams = {
        name: replace(stream, resize=(192, 192)) if stream.is_image else stream
        for name, stream in settings.streams.items()
    }
    return replace(settings, streams=streams)


def workers_seconds(bag: Path, out: Path, workers: int, bags: int) -> float:
    jobs = [replace(job(bag, out, f'{workers}_{i}'), settings=small()) for i in range(bags)]
    began = time.perf_counter()
    failed = [r for r in run_all(jobs, workers, 'local', lambda *_: None) if 'error' in r]
    if failed:
        raise RuntimeError(failed[0]['error'])
    for each in jobs:
        (out / f'{each.name}.npz').unlink()
    return time.perf_counter() - began


def benchmark(folder: Path, frames: int, rounds: int, seed: int) -> dict[str, float]:
    bag, out = folder / 'bag', folder / 'out'
    out.mkdir()
    write_bag(bag, frames, seed)
    size = sum(file.stat().st_size for file in bag.iterdir()) / 1e6
    tasks = ('nothing', 'read', 'decode', 'digest', 'convert')
    runs = {task: [apart(task, bag, out) for _ in range(rounds)] for task in tasks}
    cpu = {task: statistics.median(run.cpu for run in runs[task]) for task in tasks}
    wall = {task: statistics.median(run.wall for run in runs[task]) for task in tasks}
    own = [run.cpu - run.write for run in runs['convert']]
    output = (out / 'episode.npz').stat().st_size
    base = min(run.peak for run in runs['nothing'])
    peak = max(run.peak for run in runs['convert'])
    for file in out.iterdir():
        file.unlink()
    one, two = (workers_seconds(bag, out, count, 6) for count in (1, 2))
    return {
        'read_mb_s': size / cpu['read'],
        'decode_mb_s': size / cpu['decode'],
        'convert_mb_s': size / cpu['convert'],
        'convert_over_decode': statistics.median(own) / cpu['decode'],
        'two_worker_speedup': one / two,
        'peak_over_output': peak / output,
        'peak_above_imports_mb': (peak - base) / 1e6,
        'bag_mb': size,
        'output_mb': output / 1e6,
        **{f'{task}_cpu_s': cpu[task] for task in tasks[1:]},
        **{f'{task}_wall_s': wall[task] for task in tasks[1:]},
        'write_cpu_s': statistics.median(run.write for run in runs['convert']),
        'frames': frames,
        'threads': 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='a smoke run, without meaning')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--task', nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, bag, out = options.task
        print(json.dumps(measure(task, Path(bag), Path(out))))
        return
    frames, rounds = (20, 1) if options.quick else (600, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        figures = benchmark(Path(folder), frames, rounds, options.seed)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
