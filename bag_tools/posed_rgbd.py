"""A bag's colour, depth, cameras and poses as a stream of posed RGB-D frames."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bag_tools.decode import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    DecodeError,
    camera,
    color_image,
    depth_image,
)
from bag_tools.pairing import StampPairer
from bag_tools.reader import BagError, BagReader, Message, Topic
from bag_tools.transform_tree import TransformError, TransformTree
from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.frame import RgbdFrame

logger = logging.getLogger(__name__)

ODOMETRY = 'nav_msgs/msg/Odometry'
TF_MESSAGES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
_COLOR_WORDS = ('rgb', 'color', 'colour')
_TRANSPORTS = ('compressed', 'compressedDepth')


@dataclass(frozen=True)
class PosedRgbdConfig:
    """Which topics and frames of a bag to use. None takes what the bag offers, if only one does.

    Attributes:
        color_topic: Image or CompressedImage of colour.
        depth_topic: Image, or CompressedImage of transport compressedDepth.
        color_info_topic: CameraInfo of the colour image.
        depth_info_topic: CameraInfo of the depth image.
        odometry_topic: Odometry to place the camera with, where tf does not.
        map_frame: Frame that the poses are given in; else 'map' where the camera hangs below it,
            else the root of the camera's tree.
        slop_s: Largest difference of a colour and a depth stamp, in seconds.
        hold_s: How far outside of the recorded transforms a pose is taken to stand still, in
            seconds: colour is often stamped a little after the last transform.
        distro: ROS 2 release whose message definitions serve bags without their own.
        recover: Read what can be had of a damaged bag; what was done is told in `problems`.
    """

    color_topic: str | None = None
    depth_topic: str | None = None
    color_info_topic: str | None = None
    depth_info_topic: str | None = None
    odometry_topic: str | None = None
    map_frame: str | None = None
    slop_s: float = 0.02
    hold_s: float = 0.02
    distro: str = 'jazzy'
    recover: bool = False

    def __post_init__(self) -> None:
        """Check the durations and name the bad one."""
        for name in ('slop_s', 'hold_s'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} = {getattr(self, name)} must be 0 or more seconds')


@dataclass(frozen=True)
class Stream:
    """One image stream of a bag.

    Attributes:
        topic: Image topic.
        info_topic: Its CameraInfo topic.
        frame_id: Optical frame that the images are in.
        camera: Its intrinsics.
    """

    topic: str
    info_topic: str
    frame_id: str
    camera: Camera


class PosedRgbdBag:
    """Posed RGB-D frames of a bag, read anew, one in memory at a time, for each iteration.

    Opening reads the bag's transforms and cameras once; each iteration then streams the images.

    Args:
        path: A bag in any form that BagReader takes.
        config: Topics, frames and tolerances.

    Raises:
        BagError: The bag cannot be read, or lacks a topic that is needed, or offers several.
    """

    def __init__(self, path: Path | str, config: PosedRgbdConfig | None = None) -> None:
        self.path = Path(path)
        self.config = config or PosedRgbdConfig()
        self.dropped: Counter[str] = Counter()
        with self._open() as bag:
            self._color_topic = _color_topic(bag, self.config)
            self._depth_topic = _depth_topic(bag, self.config)
            names = (self._color_topic.name, self._depth_topic.name)
            infos = (
                _info_topic(bag, names[0], self.config.color_info_topic, 'color_info_topic'),
                _info_topic(bag, names[1], self.config.depth_info_topic, 'depth_info_topic'),
            )
            self.tree = _transforms(bag, self.config)
            cameras = _cameras(bag, infos)
            headers = _headers(bag, names)
            self.problems: list[str] = [*bag.recovery, *bag.problems]
        self.color, self.depth = (
            Stream(names[i], infos[i], headers[i].frame_id or cameras[i][0], cameras[i][1])
            for i in range(2)
        )
        self.frame_id = self.config.map_frame or self._find_map_frame(headers[1].stamp_ns)

    def __len__(self) -> int:
        """Depth images that the bag claims: no more frames than these come."""
        return self._depth_topic.claimed

    @property
    def description(self) -> str:
        """What is read, in one line."""
        return (
            f'bag {self.path}: {self.color.topic} in {self.color.frame_id} '
            f'and {self.depth.topic} in {self.depth.frame_id}, poses in {self.frame_id}'
        )

    def __iter__(self) -> Iterator[RgbdFrame]:
        """Frames by stamp. What had to be left out is counted in `dropped` and logged at the end.

        Raises:
            DamagedBagError: The bag is damaged in the middle.
        """
        self.dropped = Counter()
        pairer: StampPairer[Message] = StampPairer(self.config.slop_s)
        with self._open() as bag:
            for color, depth in _pairs(bag, pairer, self.color.topic, self.depth.topic):
                frame = self._frame(color, depth)
                if frame is not None:
                    yield frame
            self.problems.extend(text for text in bag.problems if text not in self.problems)
        self._report(pairer)

    def _open(self) -> BagReader:
        return BagReader(self.path, distro=self.config.distro, recover=self.config.recover)

    def _frame(self, color: Message, depth: Message) -> RgbdFrame | None:
        try:
            return RgbdFrame(
                stamp_ns=color.stamp_ns,
                rgb=color_image(color.data),
                depth_m=depth_image(depth.data),
                color_camera=self.color.camera,
                depth_camera=self.depth.camera,
                map_from_color=self.tree.lookup(self.frame_id, self.color.frame_id, color.stamp_ns),
                map_from_depth=self.tree.lookup(self.frame_id, self.depth.frame_id, depth.stamp_ns),
            )
        except TransformError as error:
            self._drop('no pose', f'frame at {color.stamp_ns} ns: {error}')
        except (DecodeError, ValueError) as error:
            self._drop('not decodable', f'frame at {color.stamp_ns} ns: {error}')
        return None

    def _drop(self, reason: str, text: str) -> None:
        # The first of each kind says what is wrong; the rest only count.
        if not self.dropped[reason]:
            logger.warning(text)
        self.dropped[reason] += 1

    def _report(self, pairer: StampPairer[Message]) -> None:
        for count, stream in zip(pairer.unpaired, (self.color, self.depth), strict=True):
            if count:
                reason = f'{stream.topic} without a partner within {self.config.slop_s * 1e3:g} ms'
                self.dropped[reason] = count
        if self.dropped:
            logger.warning('%s: left out %s', self.path, dict(self.dropped))

    def _find_map_frame(self, stamp_ns: int) -> str:
        try:
            chain = self.tree.ancestors(self.depth.frame_id, stamp_ns)
        except TransformError as error:
            raise BagError(f'{self.path} holds no poses of its depth camera: {error}') from error
        if len(chain) == 1:
            raise BagError(f'{self.path}: nothing places {self.depth.frame_id} in another frame')
        return 'map' if 'map' in chain else chain[-1]


@dataclass(frozen=True)
class _Header:
    frame_id: str
    stamp_ns: int


def _pairs(
    bag: BagReader, pairer: StampPairer[Message], color: str, depth: str
) -> Iterator[tuple[Message, Message]]:
    for message in bag.messages([color, depth]):
        yield from pairer.add(int(message.topic == depth), message.stamp_ns, message)
    yield from pairer.flush()


def _images(bag: BagReader) -> list[Topic]:
    return [topic for topic in bag.of_type(IMAGE, COMPRESSED_IMAGE) if topic.claimed]


def _is_depth(topic: Topic) -> bool:
    return 'depth' in topic.name.lower()


def _color_topic(bag: BagReader, config: PosedRgbdConfig) -> Topic:
    candidates = [topic for topic in _images(bag) if not _is_depth(topic)]
    named = [t for t in candidates if any(word in t.name.lower() for word in _COLOR_WORDS)]
    return _choose(bag, config.color_topic, 'color_topic', named or candidates)


def _depth_topic(bag: BagReader, config: PosedRgbdConfig) -> Topic:
    candidates = [topic for topic in _images(bag) if _is_depth(topic)]
    return _choose(bag, config.depth_topic, 'depth_topic', candidates)


def _choose(bag: BagReader, given: str | None, option: str, candidates: list[Topic]) -> Topic:
    if given is not None:
        if given not in bag.topics:
            raise BagError(
                f'{bag.path} has no topic {given} ({option}); '
                f'it has {", ".join(sorted(bag.topics)) or "none"}'
            )
        return bag.topics[given]
    # The same image raw and compressed is one stream: take the raw one.
    by_base: dict[str, Topic] = {}
    for topic in candidates:
        base = _base(topic.name)
        if base not in by_base or topic.msgtype == IMAGE:
            by_base[base] = topic
    if not by_base:
        images = ', '.join(topic.name for topic in _images(bag)) or 'none'
        raise BagError(f'{bag.path} has no topic for {option} (topics with images: {images})')
    if len(by_base) > 1:
        names = ', '.join(sorted(topic.name for topic in by_base.values()))
        raise BagError(f'{bag.path} has several topics for {option}, give one of: {names}')
    return next(iter(by_base.values()))


def _base(topic: str) -> str:
    """An image topic without its transport: camera/image_raw of camera/image_raw/compressed."""
    parent, _, last = topic.rpartition('/')
    return parent if last in _TRANSPORTS else topic


def _info_topic(bag: BagReader, image_topic: str, given: str | None, option: str) -> str:
    # image_transport's convention: camera_info is the image's sibling.
    sibling = _base(image_topic).rpartition('/')[0] + '/camera_info'
    name = given or sibling
    if name in bag.topics:
        return name
    infos = ', '.join(topic.name for topic in bag.of_type(CAMERA_INFO)) or 'none'
    raise BagError(
        f'{bag.path} has no {name} for {image_topic}: give {option} (topics of CameraInfo: {infos})'
    )


def _transforms(bag: BagReader, config: PosedRgbdConfig) -> TransformTree:
    tf_topics = [topic.name for topic in bag.of_type(*TF_MESSAGES)]
    odometry = _odometry_topics(bag, config)
    if not tf_topics and not odometry:
        raise BagError(
            f'{bag.path} holds no poses: neither tf nor odometry (its topics are '
            f'{", ".join(sorted(bag.topics)) or "none"})'
        )
    tree = TransformTree(hold_s=config.hold_s)
    for message in bag.messages([*tf_topics, *odometry]):
        if message.msgtype == ODOMETRY:
            tree.add_odometry(message.data)
        else:
            tree.add_message(message.data, static=message.topic.endswith('tf_static'))
    return tree


def _odometry_topics(bag: BagReader, config: PosedRgbdConfig) -> list[str]:
    """Odometry joins the tree where it is asked for, or where nothing else moves."""
    if config.odometry_topic is not None:
        return [_choose(bag, config.odometry_topic, 'odometry_topic', []).name]
    if any(t.claimed and not t.name.endswith('tf_static') for t in bag.of_type(*TF_MESSAGES)):
        return []
    found = [topic.name for topic in bag.of_type(ODOMETRY) if topic.claimed]
    if len(found) > 1:
        raise BagError(f'{bag.path}: odometry_topic must be given, one of {", ".join(found)}')
    return found


def _cameras(bag: BagReader, topics: tuple[str, str]) -> list[tuple[str, Camera]]:
    """The frame and camera of each CameraInfo topic, from its first message."""
    found: dict[str, tuple[str, Camera]] = {}
    for message in bag.messages(set(topics)):
        if message.topic not in found:
            try:
                found[message.topic] = (message.data.header.frame_id, camera(message.data))
            except DecodeError as error:
                raise BagError(f'{bag.path}: {message.topic}: {error}') from error
    if missing := [topic for topic in topics if topic not in found]:
        raise BagError(f'{bag.path} holds no message of {" and ".join(missing)}')
    return [found[topic] for topic in topics]


def _headers(bag: BagReader, topics: tuple[str, str]) -> list[_Header]:
    """Frame and stamp of each topic's first message."""
    return [_first_header(bag, topic) for topic in topics]


def _first_header(bag: BagReader, topic: str) -> _Header:
    for message in bag.messages([topic]):
        return _Header(message.data.header.frame_id, message.stamp_ns)
    raise BagError(f'{bag.path} holds no message of {topic}: ' + '; '.join(bag.problems))
