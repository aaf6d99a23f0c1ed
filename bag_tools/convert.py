"""One bag to one training episode: a pass for stamps, a plan, a pass that decodes and writes."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.bag_files import TASK_KEY, bag_digest, custom_data, recorded_task
from bag_tools.decode import DecodeError
from bag_tools.plan import Plan, array_bytes, make_plan, refuse_missing, valid_masks
from bag_tools.reader import BagError, BagReader, RawMessage
from bag_tools.settings import Settings
from bag_tools.summary import summarize
from bag_tools.survey import Survey, SurveyedStream, survey
from bag_tools.thumbnails import Thumbnails, png_text
from bag_tools.writers import ArrayWriter, make_writer, output_path

logger = logging.getLogger(__name__)

_UNITS = {'color': 'RGB, 0 to 255', 'depth': 'mm, 0 is no reading'}


def tool_version() -> str:
    """The version of the package; 'source' where it is run without being installed."""
    try:
        return importlib.metadata.version('vlm_nodes')
    except importlib.metadata.PackageNotFoundError:
        return 'source'


@dataclass(frozen=True)
class Job:
    """A bag to convert; it can be sent to another process or machine.

    Attributes:
        bag: The bag.
        name: Name of its outputs, without a suffix.
        out: Folder of the outputs.
        settings: What is made of it.
        formats: Any of writers.FORMATS.
        compress: Level of compression of the .npz, 0 for none.
        recover: Salvage what can be had of a damaged bag.
        dry_run: Plan only.
        pictures: Whether the summary carries pictures for the report.
    """

    bag: Path
    name: str
    out: Path
    settings: Settings
    formats: tuple[str, ...] = ('npz',)
    compress: int = 0
    recover: bool = False
    dry_run: bool = False
    pictures: bool = True

    @property
    def task(self) -> str | None:
        """What is done in the bag, in words: of the settings, else as noted at the recording."""
        return self.settings.task or recorded_task(self.bag)


@dataclass
class _Rows:
    """Which rows of a stream each message makes."""

    stream: SurveyedStream
    ordinals: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    seen: int = 0
    next: int = 0
    last: NDArray[Any] | None = None
    bad_rows: list[int] = field(default_factory=list)

    def take(self) -> NDArray[np.int64]:
        """Rows that the next message makes, mostly none or one."""
        ordinal, self.seen = self.seen, self.seen + 1
        if self.next < len(self.ordinals) and self.ordinals[self.next] == ordinal:
            self.next += 1
            return self.rows[self.starts[self.next - 1] : self.starts[self.next]]
        return self.rows[:0]


def convert(job: Job, progress: Callable[[int, int], None] = lambda done, total: None) -> Any:
    """Convert one bag.

    Args:
        job: What to do.
        progress: Called with the messages read and to be read, over both passes.

    Returns:
        A summary for JSON: see `summary.summarize`.

    Raises:
        BagError: The bag cannot be converted as asked; nothing is written.
        DamagedBagError: It is damaged in the middle; nothing is written.
    """
    cv2.setNumThreads(1)
    began = time.monotonic()
    with _open(job) as bag:
        counter = _Progress(progress, sum(topic.claimed for topic in bag.topics.values()))
        found = survey(bag, job.settings, counter.add)
        counter.expect(found)
        plan = make_plan(found, job.settings, str(job.bag))
        pictures = Thumbnails(len(plan.ticks) if job.pictures else 0)
        metadata: dict[str, Any] = {}
        if not job.dry_run:
            plan, metadata = _write(job, bag, found, plan, pictures, counter)
    return summarize(
        bag=str(job.bag),
        name=job.name,
        outputs=[]
        if job.dry_run
        else [str(output_path(job.out, job.name, f)) for f in job.formats],
        found=found,
        plan=plan,
        output_bytes=array_bytes(plan, found),
        seconds=time.monotonic() - began,
        metadata=metadata,
        pictures=pictures.as_text(),
    )


def _open(job: Job) -> BagReader:
    return BagReader(
        job.bag,
        distro=job.settings.distro,
        message_folders=job.settings.message_folders,
        recover=job.recover,
    )


class _Progress:
    """Messages read and to be read over both passes."""

    def __init__(self, report: Callable[[int, int], None], first_pass: int) -> None:
        self._report, self._done, self._total = report, 0, 2 * first_pass

    def add(self, count: int) -> None:
        self._done += count
        self._report(self._done, max(self._total, self._done))

    def expect(self, found: Survey) -> None:
        """Now that the streams are known, what remains is known as well."""
        topics = {s.topic.name: len(s.header_ns) for s in found.streams.values() if s.maker}
        self._total = self._done + sum(topics.values())


def _write(
    job: Job, bag: BagReader, found: Survey, plan: Plan, pictures: Thumbnails, counter: _Progress
) -> tuple[Plan, dict[str, Any]]:
    """Write the outputs; where dropped ticks come to light in decoding, plan and write again."""
    digest = bag_digest(job.bag)
    while True:
        writer = make_writer(job.out, job.name, job.formats, job.compress)
        try:
            again = _write_images(bag, found, plan, writer, pictures, counter, str(job.bag))
            if not again:
                metadata = _metadata(job, found, plan, digest)
                _write_rest(writer, plan, metadata)
                writer.close()
                return plan, metadata
            writer.abort()
        except BaseException:
            writer.abort()
            raise
        logger.warning('%s: planning again without what cannot be decoded', job.bag)
        plan = make_plan(found, job.settings, str(job.bag))
        pictures.restart(len(plan.ticks))


def _write_images(
    bag: BagReader,
    found: Survey,
    plan: Plan,
    writer: ArrayWriter,
    pictures: Thumbnails,
    counter: _Progress,
    where: str,
) -> bool:
    """Decode and write every image that a tick wants.

    Returns:
        Whether ticks are to be dropped for images that proved bad.
    """
    targets: dict[str, list[_Rows]] = {}
    for name, images in plan.images.items():
        stream = found.streams[name]
        maker = stream.maker
        assert maker is not None
        assert maker.shape is not None
        writer.allocate(name, (len(plan.ticks), *maker.shape), maker.dtype)
        targets.setdefault(stream.topic.name, []).append(_rows_of(stream, images.ordinal))
    if not targets:
        return False
    for message in bag.raw_messages(targets):
        counter.add(1)
        for target in targets[message.topic]:
            ordinal, rows = target.seen, target.take()
            if len(rows):
                _write_rows(bag, message, target, ordinal, rows, writer, pictures)
    return _settle(targets, plan, where)


def _rows_of(stream: SurveyedStream, ordinal: NDArray[np.int64]) -> _Rows:
    rows = np.argsort(ordinal, kind='stable')
    rows = rows[ordinal[rows] >= 0]
    ordinals, starts = np.unique(ordinal[rows], return_index=True)
    return _Rows(stream, ordinals, np.append(starts, len(rows)), rows)


def _write_rows(
    bag: BagReader,
    message: RawMessage,
    target: _Rows,
    ordinal: int,
    rows: NDArray[np.int64],
    writer: ArrayWriter,
    pictures: Thumbnails,
) -> None:
    stream = target.stream
    assert stream.maker is not None
    try:
        image: NDArray[Any] | None = stream.maker(bag.deserialize(message))
        target.last = image
    except (BagError, DecodeError) as error:
        stream.bad[ordinal] = str(error)
        target.bad_rows.extend(int(row) for row in rows)
        # The row keeps its place, so that nothing after it shifts.
        image = target.last
    if image is None:
        return
    for row in rows:
        writer.write_row(stream.name, int(row), image)
        pictures.offer(stream.name, int(row), image)


def _settle(targets: dict[str, list[_Rows]], plan: Plan, where: str) -> bool:
    """Mark, drop or refuse the ticks whose images proved bad."""
    again = False
    for target in (target for group in targets.values() for target in group):
        if target.next < len(target.ordinals):
            raise BagError(
                f'{where}: {target.stream.topic.name} held {target.seen} messages in the second '
                f'pass and {len(target.stream.header_ns)} in the first: is it still recorded?'
            )
        valid = plan.images[target.stream.name].valid
        again |= target.stream.settings.missing == 'drop' and bool(valid[target.bad_rows].any())
        valid[target.bad_rows] = False
        if target.bad_rows and target.stream.settings.missing == 'refuse':
            refuse_missing(target.stream, plan.ticks, valid, where)
    return again


def _write_rest(writer: ArrayWriter, plan: Plan, metadata: dict[str, Any]) -> None:
    for name, numbers in plan.numbers.items():
        writer.write_array(name, numbers.values)
    if plan.actions is not None:
        writer.write_array('actions', plan.actions)
    writer.write_array('stamps', plan.ticks)
    names = metadata['joint_names']
    writer.write_array('joint_names', np.array(names, dtype=np.str_ if names else '<U1'))
    for name, valid in valid_masks(plan).items():
        writer.write_array(f'valid_{name}', valid)
    if plan.actions is not None:
        writer.write_array('valid_actions', plan.actions_valid)
    writer.write_array('metadata', np.array(json.dumps(metadata)))


def _metadata(job: Job, found: Survey, plan: Plan, digest: dict[str, Any]) -> dict[str, Any]:
    clock = job.settings.clock
    periods = np.diff(plan.ticks) / 1e9
    joints = next((n for n, s in found.streams.items() if s.settings.kind == 'joints'), None)
    return {
        'tool': 'rosbag2npz',
        'version': tool_version(),
        'bag': job.bag.name,
        **digest,
        'custom_data': custom_data(job.bag),
        **({TASK_KEY: job.task} if job.task else {}),
        'settings': asdict(job.settings),
        'settings_sha256': job.settings.digest(),
        'ticks': len(plan.ticks),
        'rate_hz': clock.rate_hz or (float(1 / np.median(periods)) if len(periods) else None),
        'clock': asdict(clock) | {'span': clock.chosen_span},
        'joint_names': list(plan.names.get(joints or '', ())),
        'actions': asdict(job.settings.actions) if plan.actions is not None else None,
        'streams': {name: _stream_metadata(s, plan) for name, s in found.streams.items()},
        'absent': found.absent,
        'problems': [*found.problems, *plan.trimmed],
        'recovery': list(found.recovery),
    }


def _stream_metadata(stream: SurveyedStream, plan: Plan) -> dict[str, Any]:
    planned = plan.images.get(stream.name) or plan.numbers[stream.name]
    made: dict[str, Any] = {
        'topic': stream.topic.name,
        'type': stream.topic.msgtype,
        'kind': stream.settings.kind,
        'unit': _UNITS.get(stream.settings.kind, 'as recorded (SI by REP-103)'),
        'policy': stream.settings.chosen_policy,
        'tolerance_s': stream.settings.tolerance_s,
        'missing': stream.settings.missing,
        'stamp': stream.use,
        'messages': len(stream.header_ns),
        'bad_messages': len(stream.bad),
        'valid_ticks': int(planned.valid.sum()),
        'dropped_ticks': plan.dropped.get(stream.name, 0),
        'sync_error_s': sync_error(planned.error_ns, planned.valid),
        'stamps': asdict(stream.stamps.report),
    }
    if stream.name in plan.names:
        made['columns'] = list(plan.names[stream.name])
    if stream.maker is not None and stream.maker.reference is not None:
        made['reference_png'] = png_text(stream.maker.reference)
        made['subtracted'] = stream.settings.subtract
    return made


def sync_error(error_ns: NDArray[np.int64], valid: NDArray[np.bool_]) -> dict[str, float] | None:
    """Median, 95th percentile and largest distance of valid samples from their ticks, seconds."""
    errors = np.abs(error_ns[valid]) / 1e9
    if not len(errors):
        return None
    return {
        'median': float(np.median(errors)),
        'p95': float(np.percentile(errors, 95)),
        'max': float(errors.max()),
    }
