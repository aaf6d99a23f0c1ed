"""What the cameras over a table saw at given stamps of a bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bag_tools.decode import DecodeError, color_image, depth_image
from bag_tools.pairing import StampPairer
from bag_tools.reader import BagError, BagReader, Message
from bag_tools.table_cameras import TableCamera
from bag_tools.transform_tree import TransformTree
from vlm_nodes.cliport.heightmap import View
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.mapping.projection_table import ProjectionTable
from vlm_nodes.mapping.registration import color_pixels, is_registered

# How much deeper than what hides it a point has to be to have no colour.
_HIDDEN_MARGIN_M = 0.02


@dataclass(frozen=True, eq=False)
class Scene:
    """What all cameras saw.

    Attributes:
        stamp_ns: What was asked for.
        views: One a camera.
        lag_s: How far the stamps of the images are from it at most.
    """

    stamp_ns: int
    views: tuple[View, ...]
    lag_s: float


@dataclass
class _Watch:
    """One camera's pairs nearest to the stamps that are wanted."""

    camera: TableCamera
    pairer: StampPairer[Message]
    best: dict[int, tuple[Message, Message]] = field(default_factory=dict)
    newest_ns: int | None = None
    nearest_ns: dict[int, int] = field(default_factory=dict)

    def take(self, pair: tuple[Message, Message], wanted: Sequence[int], slop_ns: int) -> None:
        stamp = pair[0].stamp_ns
        self.newest_ns = stamp
        for want in wanted:
            gap = abs(stamp - want)
            if gap < self.nearest_ns.get(want, gap + 1):
                self.nearest_ns[want] = gap
                if gap <= slop_ns:
                    self.best[want] = pair

    def is_past(self, stamp_ns: int) -> bool:
        return self.newest_ns is not None and self.newest_ns > stamp_ns


def first_stamp_ns(bag: BagReader, cameras: Sequence[TableCamera]) -> int:
    """Stamp of the first colour image of any camera.

    Raises:
        BagError: There is none.
    """
    topics = {camera.color.topic for camera in cameras}
    for message in bag.messages(topics):
        return message.stamp_ns
    raise BagError(f'{bag.path} holds no image of {", ".join(sorted(topics))}')


def read_scenes(
    bag: BagReader,
    cameras: Sequence[TableCamera],
    tree: TransformTree,
    table_frame: str,
    stamps_ns: Sequence[int],
    *,
    slop_s: float = 0.1,
    pair_slop_s: float = 0.02,
) -> Iterator[Scene]:
    """The scene nearest to each stamp, by stamp; the bag is read once, and few images decoded.

    Args:
        bag: An open bag.
        cameras: All that have to see each scene.
        tree: Transforms of the bag.
        table_frame: Frame that cameras without a pose are looked up in.
        stamps_ns: When; each once is enough.
        slop_s: How far from its stamp a scene's image may be.
        pair_slop_s: Largest difference of a colour and a depth stamp.

    Raises:
        BagError: A camera has no images near a stamp, they cannot be decoded, or tf does not say
            where it was.
    """
    wanted = sorted(set(stamps_ns))
    slop_ns = round(slop_s * 1e9)
    watches = [_Watch(camera, StampPairer(pair_slop_s)) for camera in cameras]
    tables: dict[str, ProjectionTable] = {}
    topics = {
        topic: (watch, number)
        for watch in watches
        for number, topic in enumerate((watch.camera.color.topic, watch.camera.depth.topic))
    }
    for message in bag.messages(set(topics)):
        if not wanted:
            break
        watch, number = topics[message.topic]
        for pair in watch.pairer.add(number, message.stamp_ns, message):
            watch.take(pair, wanted, slop_ns)
        while wanted and all(watch.is_past(wanted[0] + slop_ns) for watch in watches):
            yield _scene(bag, watches, wanted.pop(0), tree, table_frame, tables)
    for watch in watches:
        for pair in watch.pairer.flush():
            watch.take(pair, wanted, slop_ns)
    for stamp in wanted:
        yield _scene(bag, watches, stamp, tree, table_frame, tables)


def _scene(
    bag: BagReader,
    watches: Sequence[_Watch],
    stamp_ns: int,
    tree: TransformTree,
    table_frame: str,
    tables: dict[str, ProjectionTable],
) -> Scene:
    views, lags = [], []
    for watch in watches:
        pair = watch.best.pop(stamp_ns, None)
        if pair is None:
            nearest = watch.nearest_ns.get(stamp_ns)
            away = 'none at all' if nearest is None else f'the nearest {nearest / 1e9:.3f} s away'
            raise BagError(
                f'{bag.path}: camera {watch.camera.name} has no pair of colour and depth near '
                f'{stamp_ns / 1e9:.3f} s, {away}'
            )
        lags.append(abs(pair[0].stamp_ns - stamp_ns) / 1e9)
        frame = _frame(bag, watch.camera, pair, tree, table_frame)
        if watch.camera.name not in tables:
            tables[watch.camera.name] = ProjectionTable.of(frame.color_camera)
        views.append(view_of(frame, tables[watch.camera.name]))
    return Scene(stamp_ns, tuple(views), max(lags))


def _frame(
    bag: BagReader,
    camera: TableCamera,
    pair: tuple[Message, Message],
    tree: TransformTree,
    table_frame: str,
) -> RgbdFrame:
    color, depth = pair
    poses = camera.poses(tree, table_frame, (color.stamp_ns, depth.stamp_ns))
    try:
        return camera.frame(color_image(color.data), depth_image(depth.data), poses, color.stamp_ns)
    except (DecodeError, ValueError) as error:
        raise BagError(
            f'{bag.path}: camera {camera.name} at {color.stamp_ns / 1e9:.3f} s: {error}'
        ) from error


def view_of(frame: RgbdFrame, color_table: ProjectionTable) -> View:
    """A view whose colour is registered to its depth.

    Where the two are of different cameras, each depth pixel takes the colour of the pixel that its
    point falls on; those whose point the colour camera does not see are no reading.
    """
    if is_registered(frame):
        return View(frame.rgb, frame.depth_m, frame.color_camera, frame.map_from_color)
    pixels = color_pixels(frame, frame.depth_camera.rays(), color_table, _HIDDEN_MARGIN_M)
    u, v = np.rint(pixels[..., 0]).astype(np.intp), np.rint(pixels[..., 1]).astype(np.intp)
    known = (u >= 0) & (u < frame.color_camera.width) & (v >= 0) & (v < frame.color_camera.height)
    rgb = np.zeros((*frame.depth_m.shape, 3), dtype=np.uint8)
    rgb[known] = frame.rgb[v[known], u[known]]
    depth_m = np.where(known, frame.depth_m, np.float32(np.nan))
    return View(rgb, depth_m, frame.depth_camera, frame.map_from_depth)
