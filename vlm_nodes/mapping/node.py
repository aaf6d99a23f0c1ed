"""The live map: camera topics in, text queries answered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from message_filters import ApproximateTimeSynchronizer, Subscriber
from nav_msgs.msg import OccupancyGrid
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import SetBool, Trigger
from tf2_ros import Buffer, TransformListener
from visualization_msgs.msg import MarkerArray
from vlm_interfaces.srv import LabelMap, LoadMap, QueryMap, SaveMap

from vlm_nodes import messages
from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.live.input_watch import InputWatch
from vlm_nodes.live.keyframes import KeyframeConfig
from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.stamps import StampWatch
from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.live.throttle import Throttle
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.map_file import MapFileError
from vlm_nodes.mapping.mapper import Mapper
from vlm_nodes.mapping.parameters import PARAMETERS
from vlm_nodes.mapping.query import DEFAULT_NEGATIVES
from vlm_nodes.mapping.text_encoder import DenseEncoder
from vlm_nodes.mapping.voxel_map import VoxelMap
from vlm_nodes.node import (
    LATCHED,
    STEADY,
    StartError,
    SubscriptionEventCallbacks,
    declare_parameters,
    sensor_qos,
)
from vlm_nodes.node import main as run_node
from vlm_nodes.transforms import MissingTransformError, lookup_matrix

WARN_PERIOD_S = 5.0
POLL_S = 0.003


@dataclass(frozen=True)
class _Pair:
    camera: str
    rgb: Any
    depth: Any
    arrived_s: float


def _check_names(values: dict[str, Any]) -> None:
    if not values['map_frame']:
        raise StartError('parameter map_frame is empty: name the frame to map in')
    for name in values['cameras']:
        if not re.fullmatch(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', name, re.ASCII):
            raise StartError(f'parameter cameras: {name!r} cannot begin the name of a topic')


class _MissingInfoError(Exception):
    pass


class _CameraInput:
    """The topics of one camera: images paired by stamp, and what is known of its lenses."""

    def __init__(
        self,
        node: Node,
        name: str,
        values: dict[str, Any],
        on_image: Callable[[_CameraInput, str, Any], None],
        on_pair: Callable[[_Pair], None],
    ) -> None:
        self.name = name
        self.infos: dict[str, Camera] = {}
        self._on_pair = on_pair
        self._node = node
        compressed_rgb = values['rgb_transport'] == 'compressed'
        compressed_depth = values['depth_transport'] == 'compressedDepth'
        self.topics = {
            'rgb': self._resolve('rgb', '/compressed' if compressed_rgb else ''),
            'depth': self._resolve('depth', '/compressedDepth' if compressed_depth else ''),
            'camera_info': self._resolve('camera_info'),
        }
        if not values['depth_registered']:
            self.topics['depth_camera_info'] = self._resolve('depth_camera_info')
        self.watch = InputWatch(
            self.topics,
            paired=('rgb', 'depth'),
            slop_s=values['sync_slop_s'],
            since_s=time.monotonic(),
        )
        queue = values['sync_queue']
        qos = sensor_qos(values['sensor_reliability'], queue)
        types = {
            'rgb': CompressedImage if compressed_rgb else Image,
            'depth': CompressedImage if compressed_depth else Image,
        }
        images = [
            Subscriber(
                node,
                types[key],
                self.topics[key],
                qos_profile=qos,
                event_callbacks=self._events(key),
            )
            for key in ('rgb', 'depth')
        ]
        # Before the synchronizer's: where time jumps back it is emptied, then takes the image.
        for key, subscriber in zip(('rgb', 'depth'), images, strict=True):
            subscriber.registerCallback(lambda message, key=key: on_image(self, key, message))
        self._sync = ApproximateTimeSynchronizer(images, queue, values['sync_slop_s'])
        self._sync.registerCallback(self._pair)
        for key in self.topics.keys() - {'rgb', 'depth'}:
            node.create_subscription(
                CameraInfo,
                self.topics[key],
                lambda message, key=key: self._info(key, message),
                qos,
                event_callbacks=self._events(key),
            )

    def forget_images(self) -> None:
        """Drop images that wait for their partner."""
        with self._sync.lock:
            for queue in self._sync.queues:
                queue.clear()

    def missing_infos(self) -> list[str]:
        """Topics of camera infos that have not come."""
        return [
            topic
            for key, topic in self.topics.items()
            if key.endswith('camera_info') and key not in self.infos
        ]

    def _resolve(self, topic: str, transport: str = '') -> str:
        # As image_transport does: remapping the base topic remaps its transports.
        base = f'{self.name}/{topic}' if self.name else topic
        return str(self._node.resolve_topic_name(base)) + transport

    def _pair(self, rgb: Any, depth: Any) -> None:
        self._on_pair(_Pair(self.name, rgb, depth, time.monotonic()))

    def _info(self, key: str, message: CameraInfo) -> None:
        self.watch.saw(key, messages.stamp_ns(message.header.stamp), time.monotonic())
        try:
            camera = messages.camera_from_info(message)
        except messages.MessageError as error:
            self.watch.is_unusable(key, str(error))
            self._node.get_logger().warning(
                f'{self.topics[key]}: {error}', throttle_duration_sec=WARN_PERIOD_S
            )
            return
        self.watch.is_unusable(key, '')
        # An equal camera is not replaced: the old one has its rays computed.
        if self.infos.get(key) != camera:
            self.infos[key] = camera

    def _events(self, key: str) -> SubscriptionEventCallbacks:
        def incompatible(event: Any) -> None:
            reason = (
                'its publisher offers best effort, this node asks for reliable: '
                'set sensor_reliability to best_effort'
            )
            self.watch.is_incompatible(key, reason)
            self._node.get_logger().warning(f'{self.topics[key]}: {reason}')

        return SubscriptionEventCallbacks(incompatible_qos=incompatible)


class MappingNode(Node):
    """Fuses posed RGB-D into a voxel map with CLIP features, and answers queries on it.

    Attributes:
        patience_s: How long nothing may come out before the node says why.
        watch_period_s: How often it looks, and publishes diagnostics.
    """

    patience_s = 5.0
    watch_period_s = 1.0

    def __init__(self, *, encoder: DenseEncoder | None = None, **options: Any) -> None:
        """Declare, load, listen.

        Args:
            encoder: To be used in place of what the parameter `model` names.
            options: For rclpy's Node, such as its context and parameter overrides.

        Raises:
            StartError: A parameter is wrong, or what it names cannot be loaded.
        """
        super().__init__('mapping_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        self._statistics = Statistics()
        self._stamps = StampWatch()
        self._warnings = Throttle(WARN_PERIOD_S)
        self._problem: str | None = None
        _check_names(values)
        self._dropped: tuple[float, str] | None = None
        self._paused = False
        self._published_version: tuple[int, ...] = ()
        self._saved_version: tuple[int, ...] = (0, 0)
        self._encoder = encoder or self._load_encoder()
        self._mapper = self._make_mapper()
        self._buffer = Buffer(cache_time=Duration(seconds=values['tf_cache_s']))
        self._listener = TransformListener(self._buffer, self)
        self._worker: NewestWorker[_Pair] = NewestWorker(
            self._fuse, on_error=self._on_error, waiting=values['frames_waiting'], name='fusion'
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda jump: self._restart('the clock jumped back'),
        )
        self._make_publishers()
        self._make_services()
        self._inputs = {
            name: _CameraInput(self, name, values, self._saw, self._take)
            for name in values['cameras'] or ['']
        }
        self._make_timers()
        if values['map_file'] and values['load_at_start']:
            self._load_at_start(Path(values['map_file']).expanduser())
        self.get_logger().info(
            f'mapping into {values["map_frame"]!r} with encoder {self._encoder_name()}'
        )

    def destroy_node(self) -> None:
        """Stop fusing, then everything else."""
        self._worker.stop(timeout_s=1.0)
        super().destroy_node()

    # Setting up ---------------------------------------------------------------------------------

    def _make_mapper(self) -> Mapper:
        values = self._values
        try:
            config = VoxelMapConfig(
                **{
                    field.name: values[field.name]
                    for field in fields(VoxelMapConfig)
                    if field.name in values
                }
            )
            keyframes = KeyframeConfig(
                translation_m=values['keyframe_translation_m'],
                rotation_deg=values['keyframe_rotation_deg'],
                interval_s=values['keyframe_interval_s'],
            )
        except ValueError as error:
            raise StartError(str(error)) from error
        return Mapper(
            config,
            frame_id=values['map_frame'],
            encoder=self._encoder,
            keyframes=keyframes,
            statistics=self._statistics,
        )

    def _load_encoder(self) -> DenseEncoder | None:
        values = self._values
        if values['model'] == 'none':
            return None
        # torch loads only where there is a model to run.
        from vlm_nodes.clip.encoder import Encoder
        from vlm_nodes.clip.weights import WeightsError

        try:
            return Encoder.load(
                values['model'],
                values['pretrained'] or None,
                method=values['dense_method'],
                device=values['device'],
                precision=values['precision'],
                weights_dir=Path(values['weights_dir']).expanduser()
                if values['weights_dir']
                else None,
                image_size=values['image_size'] or None,
                num_threads=values['torch_threads'],
            )
        except (WeightsError, ValueError) as error:
            raise StartError(str(error)) from error

    def _encoder_name(self) -> str:
        return self._encoder.identity if self._encoder else 'none'

    def _make_publishers(self) -> None:
        self._cloud = self.create_publisher(PointCloud2, '~/cloud', LATCHED)
        self._query_cloud = self.create_publisher(PointCloud2, '~/query_cloud', LATCHED)
        self._label_cloud = self.create_publisher(PointCloud2, '~/label_cloud', LATCHED)
        self._matches = self.create_publisher(MarkerArray, '~/matches', LATCHED)
        self._occupancy = self.create_publisher(OccupancyGrid, '~/occupancy', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def _make_services(self) -> None:
        # Reentrant: a query is answered while a map is being saved.
        group = ReentrantCallbackGroup()

        def serve(kind: Any, name: str, answer: Callable[..., str]) -> None:
            self.create_service(kind, name, self._answering(answer), callback_group=group)

        serve(QueryMap, 'query_map', self._query)
        serve(LabelMap, 'label_map', self._label)
        serve(SaveMap, '~/save_map', self._save)
        serve(LoadMap, '~/load_map', self._load)
        serve(Trigger, '~/reset', self._reset)
        serve(SetBool, '~/pause', self._pause)

    def _make_timers(self) -> None:
        values = self._values

        def every(period_s: float, callback: Callable[[], None]) -> None:
            group = MutuallyExclusiveCallbackGroup()
            self.create_timer(period_s, self._guarded(callback), callback_group=group, clock=STEADY)

        every(self.watch_period_s, self._watch)
        every(values['publish_period_s'], self._publish_map)
        if values['autosave_period_s'] > 0:
            if not values['map_file']:
                raise StartError('autosave_period_s is set, but map_file is not: where to save?')
            every(values['autosave_period_s'], self._autosave)

    def _load_at_start(self, path: Path) -> None:
        try:
            loaded = self._mapper.load(path)
        except MapFileError as error:
            raise StartError(str(error)) from error
        self.get_logger().info(f'loaded {len(loaded)} voxels from {path}')

    # Frames -------------------------------------------------------------------------------------

    def _saw(self, camera: _CameraInput, key: str, message: Any) -> None:
        stamp_ns = messages.stamp_ns(message.header.stamp)
        camera.watch.saw(key, stamp_ns, time.monotonic())
        if self._stamps.jumped_back(camera.topics[key], stamp_ns):
            self._restart(f'stamps of {camera.topics[key]} jumped back')

    def _take(self, pair: _Pair) -> None:
        camera = self._inputs[pair.camera]
        self._statistics.count('frames in')
        if not camera.missing_infos():
            camera.watch.saw_pair(time.monotonic())
        if self._paused:
            self._statistics.count('dropped paused')
        else:
            superseded = self._worker.offer(pair.camera, pair)
            self._statistics.count('dropped superseded', superseded)

    def _fuse(self, pair: _Pair) -> None:
        started_s = time.monotonic()
        try:
            frame = self._frame(pair)
        except MissingTransformError as error:
            self._drop('no transform', str(error))
            return
        except _MissingInfoError as error:
            self._drop('no camera_info', str(error))
            return
        except (messages.MessageError, ValueError) as error:
            self._drop('bad message', str(error))
            return
        if frame is None:
            self._statistics.count('dropped no keyframe')
            return
        self._statistics.time('waiting', (started_s - pair.arrived_s) * 1e3)
        self._statistics.time('preparing', (time.monotonic() - started_s) * 1e3)
        report = self._mapper.fuse(pair.camera, frame)
        if report is None:
            self._statistics.count('dropped reset')
            return
        if report.points == 0:
            self._drop('no depth', self._no_depth(frame))
            return
        self._dropped = None
        self._statistics.count('frames fused')
        self._statistics.time('arrival to fused', (time.monotonic() - pair.arrived_s) * 1e3)

    def _frame(self, pair: _Pair) -> RgbdFrame | None:
        """The frame of a pair, or None if it is no keyframe."""
        registered = self._values['depth_registered']
        infos = self._infos(self._inputs[pair.camera])
        depth_frame = (pair.rgb if registered else pair.depth).header.frame_id
        map_from_color = self._pose(pair.rgb.header.frame_id, pair.rgb.header.stamp)
        stamp_ns = messages.stamp_ns(pair.rgb.header.stamp)
        if not self._mapper.wants(pair.camera, stamp_ns, map_from_color):
            return None
        return RgbdFrame(
            stamp_ns=stamp_ns,
            rgb=messages.rgb_from_image(pair.rgb),
            depth_m=messages.depth_from_image(pair.depth),
            color_camera=infos['camera_info'],
            depth_camera=infos['camera_info' if registered else 'depth_camera_info'],
            map_from_color=map_from_color,
            map_from_depth=self._pose(depth_frame, pair.depth.header.stamp),
        )

    def _infos(self, camera: _CameraInput) -> dict[str, Camera]:
        """The camera infos, waited for like tf: the first may come later than the images."""
        deadline = time.monotonic() + self._values['tf_timeout_s']
        while missing := camera.missing_infos():
            if time.monotonic() >= deadline or self._worker.stopping.wait(POLL_S):
                raise _MissingInfoError(f'no usable camera_info on {", ".join(missing)}')
        camera.watch.saw_pair(time.monotonic())
        return camera.infos

    def _no_depth(self, frame: RgbdFrame) -> str:
        low_m, high_m = self._values['min_depth_m'], self._values['max_depth_m']
        readings = int(np.isfinite(frame.depth_m).sum())
        return (
            f'none of {readings} depth readings lies between min_depth_m = {low_m} and '
            f'max_depth_m = {high_m}'
        )

    def _pose(self, frame_id: str, stamp: Any) -> Any:
        return lookup_matrix(
            self._buffer,
            self._values['map_frame'],
            frame_id,
            stamp,
            self._values['tf_timeout_s'],
            self._worker.stopping,
        )

    def _drop(self, why: str, details: str) -> None:
        self._statistics.count(f'dropped {why}')
        self._dropped = (now_s := time.monotonic(), details)
        if self._warnings.due(why, now_s):
            self.get_logger().warning(f'frame dropped: {details}')

    def _on_error(self, error: Exception) -> None:
        self._drop(f'{type(error).__name__}', f'{type(error).__name__}: {error}')

    def _restart(self, why: str) -> None:
        """Time began anew: queues are emptied, the map stays."""
        self.get_logger().warning(f'{why}: queues emptied, the map stays')
        self._buffer.clear()
        self._stamps.clear()
        for camera in self._inputs.values():
            camera.forget_images()
        self._worker.clear()
        self._mapper.restart()
        self._statistics.count('restarts of time')

    # Services: each returns its message; what it raises becomes success = false -----------------

    def _query(self, request: Any, response: Any) -> str:
        started_s = time.monotonic()
        found = self._asked_map().query(
            request.text,
            negatives=tuple(request.negatives) or DEFAULT_NEGATIVES,
            max_matches=request.max_matches or self._values['max_matches'],
            min_score=request.min_score or self._values['min_score'],
        )
        response.header = self._header()
        response.matches = [messages.match_message(match) for match in found]
        self._statistics.time('query', (time.monotonic() - started_s) * 1e3)
        self._matches.publish(messages.match_markers(found, response.header))
        if self._query_cloud.get_subscription_count():
            points, scores = self._asked_map().score_cloud(
                request.text, tuple(request.negatives) or DEFAULT_NEGATIVES
            )
            self._query_cloud.publish(
                messages.cloud_message(points, response.header, intensity=scores)
            )
        return f'{len(found)} match(es) for {request.text!r}'

    def _label(self, request: Any, response: Any) -> str:
        points, labels = self._asked_map().label_cloud(
            list(request.labels), percentile=request.percentile or None
        )
        response.counts = np.bincount(labels, minlength=len(request.labels) + 1).tolist()
        self._label_cloud.publish(messages.cloud_message(points, self._header(), labels=labels))
        return f'{len(points)} voxels labelled'

    def _save(self, request: Any, response: Any) -> str:
        path = self._path(request.path)
        grid = self._mapper.map
        grid.save(path)
        response.voxels = len(grid)
        return f'saved {len(grid)} voxels to {path}'

    def _load(self, request: Any, response: Any) -> str:
        path = self._path(request.path)
        loaded = self._mapper.load(path)
        response.voxels = len(loaded)
        return f'loaded {len(loaded)} voxels from {path}'

    def _reset(self, request: Any, response: Any) -> str:
        self._worker.clear()
        self._mapper.reset()
        return 'the map is empty'

    def _pause(self, request: Any, response: Any) -> str:
        self._paused = bool(request.data)
        return 'mapping pauses' if self._paused else 'mapping goes on'

    def _asked_map(self) -> VoxelMap:
        if self._encoder is None:
            raise ValueError(
                'this node has no encoder and cannot read: set the parameter model to one'
            )
        return self._mapper.map

    def _path(self, asked: str) -> Path:
        path = asked or self._values['map_file']
        if not path:
            raise ValueError('no path was given, and the parameter map_file is empty')
        return Path(path).expanduser()

    def _answering(self, answer: Callable[..., str]) -> Callable[..., Any]:
        def callback(request: Any, response: Any) -> Any:
            try:
                response.message = answer(request, response)
                response.success = True
            except (ValueError, OSError, MapFileError) as error:
                response.success = False
                response.message = str(error)
            except Exception as error:  # a request must never end the node
                response.success = False
                response.message = f'{type(error).__name__}: {error}'
                self.get_logger().error(f'service failed: {response.message}')
            return response

        return callback

    # Output -------------------------------------------------------------------------------------

    def _header(self) -> Any:
        return messages.header_message(self._values['map_frame'], self._mapper.newest_stamp_ns)

    def _publish_map(self) -> None:
        """Send what is subscribed, if it changed or somebody new listens."""
        publishers = (self._cloud, self._occupancy)
        listeners = [publisher.get_subscription_count() for publisher in publishers]
        version = (*self._version(), *listeners)
        if version == self._published_version:
            return
        self._published_version = version
        grid, header = self._mapper.map, self._header()
        if listeners[0]:
            points, colors = grid.color_cloud()
            self._cloud.publish(messages.cloud_message(points, header, colors=colors))
        if listeners[1]:
            band_m = (self._values['occupancy_min_z_m'], self._values['occupancy_max_z_m'])
            plan = grid.occupancy_grid(
                band_m,
                obstacles=self._values['obstacle_names'],
                free=self._values['free_names'],
            )
            self._occupancy.publish(
                messages.occupancy_message(plan.data, plan.origin_m, plan.resolution_m, header)
            )

    def _version(self) -> tuple[int, int]:
        return self._mapper.generation, self._statistics.get('frames fused')

    def _autosave(self) -> None:
        version = self._version()
        if version != self._saved_version and len(self._mapper.map):
            self._mapper.map.save(self._path(''))
            self._saved_version = version

    def _watch(self) -> None:
        complaints = [
            complaint
            for camera in self._inputs.values()
            if not self._paused
            and (
                complaint := camera.watch.complaint(
                    time.monotonic(), self.patience_s, self.count_publishers
                )
            )
        ]
        if self._dropped and time.monotonic() - self._dropped[0] < self.patience_s:
            complaints.append(f'frames are dropped: {self._dropped[1]}')
        if complaints and self._clock_stands_still():
            complaints.append('use_sim_time is set, but nobody publishes /clock')
        self._problem = '; '.join(complaints) or None
        if self._problem:
            self.get_logger().warning(self._problem, throttle_duration_sec=WARN_PERIOD_S)
        grid = self._mapper.map
        values = self._statistics.values() | {
            'voxels': str(len(grid)),
            'map megabytes': f'{grid.nbytes() / 1e6:.1f}',
            'process megabytes': f'{resident_megabytes():.1f}',
            'newest stamp ns': str(self._mapper.newest_stamp_ns),
            'encoder': self._encoder_name(),
        }
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            messages.diagnostics_message(self.get_name(), self._problem, values, stamp)
        )

    def _clock_stands_still(self) -> bool:
        return bool(
            self.get_parameter('use_sim_time').value and self.get_clock().now().nanoseconds == 0
        )

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        """A timer's callback that reports what goes wrong and goes on."""

        def call() -> None:
            try:
                callback()
            except Exception as error:  # what fails in one period must not end the node
                if not self.context.ok():  # nothing can be published any more: the node ends
                    return
                self.get_logger().error(
                    f'{callback.__name__}: {type(error).__name__}: {error}',
                    throttle_duration_sec=WARN_PERIOD_S,
                )

        return call


def main() -> None:
    """Run the node."""
    run_node(MappingNode)


if __name__ == '__main__':
    main()
