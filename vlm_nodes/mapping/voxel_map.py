"""The map: posed RGB-D and patch features in, text queries answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.geometry import RgbdFrame
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.mapping import map_file, query
from vlm_nodes.mapping.clearing import nearest_around, seen_through
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.floor_plan import FloorPlan, FloorRegion, OccupancyGrid
from vlm_nodes.mapping.frame_scanner import FrameScanner
from vlm_nodes.mapping.fusion import add_band, group_by_chunk
from vlm_nodes.mapping.fusion_report import FusionReport, Stopwatch
from vlm_nodes.mapping.instances import MapMatch, MatchedVoxels, find_instances
from vlm_nodes.mapping.jit import Workers
from vlm_nodes.mapping.map_file import MapFileError
from vlm_nodes.mapping.map_scores import MapScores
from vlm_nodes.mapping.query import DEFAULT_NEGATIVES
from vlm_nodes.mapping.reduction import fit_reduction
from vlm_nodes.mapping.text_encoder import TextEncoder
from vlm_nodes.mapping.voxel_index import AXIS_HALF, VoxelIndex, unpack_keys
from vlm_nodes.mapping.voxel_store import CHUNK_SHIFT, Chunk, VoxelStore

_logger = logging.getLogger(__name__)

# Key coordinates count from a multiple of this, chosen at the first frame: 0 in ordinary maps, and
# close enough where the map frame is a survey grid (UTM) millions of metres from its origin.
_ORIGIN_STEP = AXIS_HALF // 2
_FIT_SAMPLES = 20_000


class VoxelMap:
    """A sparse voxel map with open-vocabulary features, unbounded in space.

    One thread integrates, any number of threads query, save and read beside it: each sees the map
    between two frames, never within one.

    Attributes:
        config: Its parameters.
        frame_id: The tf frame of all its coordinates.
    """

    def __init__(
        self,
        config: VoxelMapConfig | None = None,
        *,
        frame_id: str = 'map',
        encoder: TextEncoder | None = None,
        projection: FeatureProjection | None = None,
        vocabulary: Sequence[str] = (),
    ) -> None:
        """An empty map.

        Args:
            config: Parameters; None takes the defaults.
            frame_id: The tf frame that poses are given in.
            encoder: Encodes queries; its image side made the features that will be integrated.
            projection: Reduces features. Without one, features longer than `config.feature_dim`
                are kept whole for `config.projection_frames` frames; a projection is then fitted
                on them and the map is reduced in place.
            vocabulary: Names of things that are likely to be asked for: the projection is fitted
                on their embeddings as well, which keeps more of what tells names apart. They are
                encoded once, by the thread that integrates.
        """
        self.config = config or VoxelMapConfig()
        self.frame_id = frame_id
        self._encoder = encoder
        self._encoder_identity = encoder.identity if encoder else ''
        self._encoder_arguments = query.encoder_arguments(encoder)
        self._given_projection = projection
        self._vocabulary = tuple(vocabulary)
        self._workers = Workers(self.config.threads)
        self._scanner = FrameScanner(self.config, self._workers)
        self._writing = threading.RLock()  # held by one integrate, fit or clear at a time
        self._lock = threading.RLock()  # held while rows change or are read
        self._reset()

    def _reset(self) -> None:
        self._index = VoxelIndex()
        self._store = VoxelStore(0)
        self._projection = self._given_projection
        self._encoder_dim = self._projection.dim if self._projection else 0
        self._origin: NDArray[np.int64] | None = None
        self._featured_frames = 0

    # Filling ------------------------------------------------------------------------------------

    def integrate(
        self, frame: RgbdFrame, features: NDArray[np.float32] | None = None
    ) -> FusionReport:
        """Add one frame.

        Args:
            frame: Colour, depth, cameras and poses in the map's frame.
            features: (h, w, D) float32, one feature per patch of the colour image; patch (i, j)
                covers image rows [i H / h, (i + 1) H / h). None adds geometry and colour only.

        Returns:
            What was added and how long it took.

        Raises:
            ValueError: The features do not fit the map or are not finite, or the camera is more
                than a million voxels from where the map began. The map is as before.
        """
        watch = Stopwatch()
        with self._writing:
            patches = self._prepare(features)
            origin = self._checked_origin(frame)
            grid = features.shape[:2] if features is not None else (0, 0)
            watch.lap('features')
            points = self._scanner.scan(frame, origin, grid)
            nearest = nearest_around(frame.depth_m) if self.config.clear_after else None
            watch.lap('scan')
            with self._lock:
                self._origin = origin
                before = self._store.size
                touched = self._commit(patches, grid[1], frame.stamp_ns)
                new = self._store.size - before
                watch.lap('commit')
                cleared = self._clear_seen_through(frame, nearest, touched)
                watch.lap('clear')
                voxels = self._store.size
            if features is not None:
                self._featured_frames += 1
                self._fit_when_due()
            return FusionReport(points, int(touched.sum()), new, cleared, voxels, watch.ms)

    def fit_projection(self, texts: NDArray[np.float32] | None = None) -> None:
        """Fit the reducing projection and reduce the map in place.

        Happens by itself after `config.projection_frames` frames. Does nothing where features are
        no longer than `config.feature_dim`.

        Args:
            texts: (M, D) text embeddings of what will be asked for; the projection is fitted on
                them and on the map's own voxels. None takes those of the map's vocabulary.

        Raises:
            ValueError: There is nothing to fit on, or a projection is in use already.
        """
        with self._writing:
            if self._projection is not None:
                raise ValueError('the map has a projection already; features cannot be refitted')
            if texts is None:
                texts = self._vocabulary_texts()
            with self._lock:
                samples = self._sample_features()
            wanted, dim = self.config.feature_dim, max(samples.shape[1], texts.shape[1])
            if wanted == 0 or 0 < dim <= wanted:
                return
            groups = [part.reshape(len(part), dim) for part in (samples, texts)]
            self._use_projection(fit_reduction(groups[0], groups[1], wanted))

    def clear(self) -> None:
        """Forget everything but the parameters."""
        with self._writing, self._lock:
            self._reset()

    def _prepare(self, features: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Unit patches (P, stored dim), projected; (0, stored dim) for None."""
        if features is None:
            return np.empty((0, self._store.feature_dim), dtype=np.float32)
        if features.ndim != 3 or 0 in features.shape:
            raise ValueError(f'features have shape {features.shape}, not (h, w, D)')
        flat = np.ascontiguousarray(features.reshape(-1, features.shape[2]), dtype=np.float32)
        if not np.isfinite(flat).all():
            raise ValueError('features hold numbers that are not finite')
        self._accept_dim(flat.shape[1])
        norms = np.sqrt(np.einsum('ij,ij->i', flat, flat))
        unit = flat / np.maximum(norms, 1e-12)[:, None]
        return self._projection.project(unit) if self._projection else unit

    def _accept_dim(self, dim: int) -> None:
        expected = self._encoder_dim or (self._encoder.dim if self._encoder else dim)
        if dim != expected:
            raise ValueError(f'features have {dim} numbers, this map holds {expected}')
        if self._encoder_dim == 0 or self._store.feature_dim == 0:
            self._encoder_dim = dim
            stored = self._projection.reduced_dim if self._projection else dim
            with self._lock:
                self._store.map_features(
                    stored, lambda _, rows: np.zeros((rows, stored), dtype=np.float32)
                )

    def _checked_origin(self, frame: RgbdFrame) -> NDArray[np.int64]:
        camera = np.floor(frame.map_from_depth[:3, 3] / self.config.voxel_size_m)
        origin = self._origin
        if origin is None:
            origin = (np.round(camera / _ORIGIN_STEP) * _ORIGIN_STEP).astype(np.int64)
        # Twice the depth covers the corners of a 120 degree lens.
        reach = 3 * self.config.max_depth_m / self.config.voxel_size_m + 2
        if np.abs(camera - origin).max() + reach >= AXIS_HALF:
            raise ValueError(
                f'camera at {frame.map_from_depth[:3, 3].tolist()} m is farther from where the map '
                f'began than {AXIS_HALF} voxels of {self.config.voxel_size_m} m: check the pose'
            )
        return origin

    def _commit(
        self, patches: NDArray[np.float32], patch_cols: int, stamp_ns: int
    ) -> NDArray[np.bool_]:
        """Add the bands to the rows; returns which rows got a point."""
        rows = [self._index.insert(band.keys[: band.size]) for band in self._scanner.bands]
        self._store.grow(self._index.size)
        touched = np.zeros(self._store.size, dtype=np.bool_)
        chunks = self._store.chunk_count
        groups = [group_by_chunk(band_rows, chunks) for band_rows in rows]
        for band_rows in rows:
            touched[band_rows] = True
        used = [c for c in range(chunks) if any(s[c] < s[c + 1] for _, s in groups)]
        writable = {chunk: self._store.writable(chunk) for chunk in used}

        def add(worker: int) -> None:
            for chunk in used:
                for band, band_rows, (order, starts) in zip(
                    self._scanner.bands, rows, groups, strict=True
                ):
                    add_band(
                        writable[chunk],
                        band,
                        band_rows,
                        order[starts[chunk] : starts[chunk + 1]],
                        patches,
                        patch_cols,
                        stamp_ns,
                        self.config.max_weight,
                        worker,
                        self._workers.count,
                    )

        self._workers.map(add, range(self._workers.count))
        return touched

    def _clear_seen_through(
        self,
        frame: RgbdFrame,
        nearest: NDArray[np.float32] | None,
        touched: NDArray[np.bool_],
    ) -> int:
        if nearest is None:
            return 0
        table = self._scanner.table(frame.depth_camera)
        depth_from_map = invert(frame.map_from_depth)
        config = self.config
        limits = np.array(
            [config.min_depth_m, config.max_depth_m, config.margin_m(), config.clear_margin_per_m2]
        )

        def missed(chunk: int) -> NDArray[np.int64]:
            start = chunk << CHUNK_SHIFT
            stop = start + self._store.rows_in(chunk)
            return seen_through(
                self._index.keys[start:stop],
                self._store.readable(chunk).offset,
                touched[start:stop],
                self._known_origin(),
                config.voxel_size_m,
                depth_from_map,
                table.pixels,
                table.origin_scale,
                nearest,
                limits,
            )

        forgotten = [np.empty(0, dtype=np.int64)]
        found = self._workers.map_strided(missed, self._store.chunk_count)
        for chunk, rows in enumerate(found):
            if len(rows):
                misses = self._store.writable(chunk).misses
                misses[rows] += 1
                gone = rows[misses[rows] >= config.clear_after]
                forgotten.append(gone + (chunk << CHUNK_SHIFT))
        return self._forget(np.concatenate(forgotten))

    def _forget(self, rows: NDArray[np.int64]) -> int:
        if len(rows):
            holes, movers = self._index.remove(rows)
            self._store.move(holes, movers, self._index.size)
        return len(rows)

    def _known_origin(self) -> NDArray[np.int64]:
        return self._origin if self._origin is not None else np.zeros(3, dtype=np.int64)

    # Projection ---------------------------------------------------------------------------------

    def _fit_when_due(self) -> None:
        wanted = self.config.feature_dim
        due = self._featured_frames >= self.config.projection_frames
        # Fewer samples than this would leave directions undetermined.
        enough = len(self) >= 2 * wanted
        if due and enough and self._projection is None and 0 < wanted < self._encoder_dim:
            self.fit_projection()

    def _vocabulary_texts(self) -> NDArray[np.float32]:
        if not self._vocabulary:
            return np.empty((0, 0), dtype=np.float32)
        return self._encode(self._vocabulary)

    def _sample_features(self) -> NDArray[np.float32]:
        """Unit mean features of at most `_FIT_SAMPLES` voxels, evenly picked."""
        step = max(1, self._store.size // _FIT_SAMPLES)
        parts = [np.empty((0, self._store.feature_dim), dtype=np.float32)]
        for index in range(self._store.chunk_count):
            rows = slice(0, self._store.rows_in(index), step)
            chunk = self._store.readable(index)
            parts.append(chunk.features[rows][chunk.feature_weight[rows] > 0])
        samples = np.concatenate(parts)
        samples /= np.maximum(np.linalg.norm(samples, axis=1, keepdims=True), 1e-12)
        return samples

    def _use_projection(self, projection: FeatureProjection) -> None:
        def reduce(chunk: Chunk, rows: int) -> NDArray[np.float32]:
            # Sums of w f become sums of w z: z = (f - mean) basis is linear but for the mean.
            shift = np.outer(chunk.feature_weight[:rows], projection.mean @ projection.basis)
            return (chunk.features[:rows] @ projection.basis - shift).astype(np.float32)

        with self._lock:
            if self._store.feature_dim:
                self._store.map_features(projection.reduced_dim, reduce)
            self._projection = projection
            self._encoder_dim = projection.dim
        _logger.info('features reduced from %d to %d', projection.dim, projection.reduced_dim)

    # Reading ------------------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block several reads see the same state; fusion waits, so be brief."""
        with self._lock:
            yield

    def __len__(self) -> int:
        """Number of voxels."""
        return self._index.size

    @property
    def points(self) -> NDArray[np.float32]:
        """(N, 3) float32 metres: the weighted mean of the points that fell in each voxel."""
        return self.exact_points().astype(np.float32)

    def exact_points(self) -> NDArray[np.float64]:
        """`points` in float64, for frames whose origin is kilometres away."""
        with self._lock:
            return self._points(np.arange(len(self)))

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(N, 3) uint8 mean RGB; black where no colour pixel was seen."""
        with self._lock:
            colors: NDArray[np.uint8] = np.rint(self._store.column('color')).astype(np.uint8)
            return colors

    @property
    def counts(self) -> NDArray[np.int32]:
        """(N,) int32 depth pixels that fell in each voxel."""
        return self._column('count')

    @property
    def weights(self) -> NDArray[np.float32]:
        """(N,) float32 weight of each voxel's features; 0 where it has none."""
        return self._column('feature_weight')

    @property
    def first_seen_ns(self) -> NDArray[np.int64]:
        """(N,) int64 earliest stamp."""
        return self._column('first_seen')

    @property
    def last_seen_ns(self) -> NDArray[np.int64]:
        """(N,) int64 latest stamp."""
        return self._column('last_seen')

    @property
    def features(self) -> NDArray[np.float32]:
        """(N, D) float32 weighted mean features as stored, reduced by `projection` if there is one.

        A copy: 512 bytes a voxel at the default. Zero where a voxel has none.
        """
        with self._lock:
            weights = np.maximum(self._store.column('feature_weight'), np.float32(1e-30))
            features: NDArray[np.float32] = self._store.column('features')
            features /= weights[:, None]
            return features

    @property
    def projection(self) -> FeatureProjection | None:
        """What reduces the features; None while they are whole."""
        return self._projection

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) float64 metres: lowest and highest corner of the occupied voxels; NaN if empty."""
        with self._lock:
            if len(self) == 0:
                return np.full((2, 3), np.nan)
            voxels = unpack_keys(self._index.keys) + self._known_origin()
            corners = np.stack([voxels.min(axis=0), voxels.max(axis=0) + 1])
            return corners * self.config.voxel_size_m

    def nbytes(self) -> int:
        """Bytes the voxels take, without the buffers of fusion."""
        with self._lock:
            return self._store.nbytes() + self._index.nbytes()

    def _column(self, name: str) -> NDArray[Any]:
        with self._lock:
            return self._store.column(name)

    def _points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        voxels = unpack_keys(self._index.keys[rows]) + self._known_origin()
        points: NDArray[np.float64] = voxels.astype(np.float64)
        points += self._gather('offset', rows)
        points *= self.config.voxel_size_m
        return points

    def _gather(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """One column at ascending rows."""
        cuts = np.searchsorted(rows, np.arange(1, self._store.chunk_count) << CHUNK_SHIFT)
        parts = [
            getattr(self._store.readable(chunk), name)[part - (chunk << CHUNK_SHIFT)]
            for chunk, part in enumerate(np.split(rows, cuts))
            if chunk < self._store.chunk_count
        ]
        return np.concatenate(parts) if parts else self._store.column(name)

    # Asking -------------------------------------------------------------------------------------

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder; a loaded map's is loaded on first use.

        Raises:
            ValueError: The map has none.
        """
        if self._encoder is None:
            self._encoder = query.load_encoder(self._encoder_identity, self._encoder_arguments)
        return self._encoder

    def query(
        self,
        text: str,
        *,
        negatives: Sequence[str] = DEFAULT_NEGATIVES,
        max_matches: int = 10,
        min_score: float = 0.5,
        min_voxels: int = 3,
    ) -> list[MapMatch]:
        """Things that fit a text, best first.

        Args:
            text: What to look for.
            negatives: What else a voxel may be; the score is the text's share against these.
            max_matches: At most this many.
            min_score: Voxels below this score belong to no match; in [0, 1].
            min_voxels: Smaller things are dropped.

        Returns:
            Connected groups of voxels, in metres in the map's frame.

        Raises:
            ValueError: The text or a number cannot be used; the message names it.
        """
        query.check_numbers(max_matches=max_matches, min_score=min_score, min_voxels=min_voxels)
        vectors = self._encode([text, *query.checked_negatives(text, negatives)])
        with self._lock:
            matched = self._match(self._scores(vectors), min_score)
        return find_instances(
            matched,
            text,
            min_voxels=min_voxels,
            max_matches=max_matches,
            voxel_size_m=self.config.voxel_size_m,
        )

    def scores(
        self, text: str, negatives: Sequence[str] = DEFAULT_NEGATIVES
    ) -> NDArray[np.float32]:
        """(N,) float32 score of every voxel in [0, 1]; 0 where a voxel has no features."""
        vectors = self._encode([text, *query.checked_negatives(text, negatives)])
        with self._lock:
            return self._scores(vectors)

    def score_cloud(
        self, text: str, negatives: Sequence[str] = DEFAULT_NEGATIVES
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 3) and their scores (N,), of the same moment."""
        vectors = self._encode([text, *query.checked_negatives(text, negatives)])
        with self._lock:
            return self.points, self._scores(vectors)

    def color_cloud(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Points (N, 3) and their colours (N, 3), of the same moment."""
        with self._lock:
            return self.points, self.colors

    def label(self, labels: Sequence[str], *, percentile: float | None = None) -> NDArray[np.int32]:
        """The best label of every voxel.

        Args:
            labels: Names; 'other' joins them as the last.
            percentile: In [0, 100]; a voxel takes a label only where its cosine with it is at or
                above this percentile over the map.

        Returns:
            (N,) int32 positions in `labels`; len(labels) is 'other'.

        Raises:
            ValueError: A label or the percentile cannot be used.
        """
        vectors = self._encode_labels(labels, percentile)
        with self._lock:
            return self._labels(vectors, percentile)

    def label_cloud(
        self, labels: Sequence[str], *, percentile: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Points (N, 3) and their labels (N,), of the same moment."""
        vectors = self._encode_labels(labels, percentile)
        with self._lock:
            return self.points, self._labels(vectors, percentile)

    def occupancy_grid(
        self,
        height_band_m: tuple[float, float] = (0.1, 1.8),
        resolution_m: float | None = None,
        *,
        obstacles: Sequence[str] = (),
        free: Sequence[str] = (),
    ) -> OccupancyGrid:
        """A floor plan for navigation: occupied where the map has voxels in a band of heights.

        Args:
            height_band_m: Lowest and highest z of what the robot would hit, in the map's frame.
            resolution_m: Edge of a cell; None takes the voxel size.
            obstacles: Names of things that count as obstacles at any height ('rug').
            free: Names of things that never count as obstacles ('curtain').

        Raises:
            ValueError: A name, the band or the resolution cannot be used.
        """
        names = [*obstacles, *free]
        vectors = self._encode([*query.checked_labels(names), query.OTHER]) if names else None
        with self._lock:
            points = self.exact_points()
            labels = None if vectors is None else self._labels(vectors, None)
        plan = FloorPlan.of(points, resolution_m or self.config.voxel_size_m)
        if labels is None:
            return plan.occupancy(points[:, 2], height_band_m)
        named = labels < len(obstacles)
        passable = (labels >= len(obstacles)) & (labels < len(names))
        return plan.occupancy(points[:, 2], height_band_m, named, passable)

    def regions(
        self,
        text: str,
        *,
        negatives: Sequence[str] = DEFAULT_NEGATIVES,
        min_score: float = 0.5,
        min_area_m2: float = 0.0,
        resolution_m: float | None = None,
    ) -> list[FloorRegion]:
        """Outlines, centres and boxes, in the floor plane, of what fits a text; best first.

        Raises:
            ValueError: The text or a number cannot be used.
        """
        query.check_numbers(max_matches=1, min_score=min_score, min_voxels=1)
        vectors = self._encode([text, *query.checked_negatives(text, negatives)])
        with self._lock:
            points, scores = self.exact_points(), self._scores(vectors)
        plan = FloorPlan.of(points, resolution_m or self.config.voxel_size_m)
        return plan.regions(scores, max(min_score, 1e-6), min_area_m2)

    def _encode_labels(
        self, labels: Sequence[str], percentile: float | None
    ) -> NDArray[np.float32]:
        names = query.checked_labels(labels)
        query.check_percentile(percentile)
        return self._encode([*names, query.OTHER])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        for text in texts:
            query.check_text(text)
        vectors = np.asarray(self.encoder.encode_text(texts), dtype=np.float32)
        if self._encoder_dim and vectors.shape[1] != self._encoder_dim:
            raise ValueError(
                f'the encoder gives {vectors.shape[1]} numbers, this map holds {self._encoder_dim}'
            )
        return vectors

    def _scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = float(self.encoder.logit_scale)
        return self._map_scores().softmax(vectors, scale)

    def _labels(self, vectors: NDArray[np.float32], percentile: float | None) -> NDArray[np.int32]:
        return self._map_scores().labels(vectors, percentile)

    def _map_scores(self) -> MapScores:
        return MapScores(self._store, self._projection, self._workers)

    def _match(self, scores: NDArray[np.float32], min_score: float) -> MatchedVoxels:
        # Score 0 is for voxels without features: they match nothing, whatever the threshold.
        rows = np.flatnonzero(scores >= np.float32(max(min_score, 1e-30)))
        return MatchedVoxels(
            keys=self._index.keys[rows],
            points=self._points(rows),
            scores=scores[rows],
            first_seen=self._gather('first_seen', rows),
            last_seen=self._gather('last_seen', rows),
        )

    # Files --------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write the whole map to one file, while fusion and queries go on.

        Raises:
            MapFileError: It cannot be written; what was at `path` before is untouched.
        """
        with self._lock:
            header, keys, projection = self._header(), self._index.keys.copy(), self._projection
            chunks = self._store.hold()
            store = self._store
        try:
            arrays = projection.to_arrays() if projection else {}
            map_file.write_map(Path(path), map_file.MapFile(header, keys, chunks, arrays))
        finally:
            with self._lock:
                store.release()

    @classmethod
    def load(
        cls,
        path: Path | str,
        encoder: TextEncoder | None = None,
        *,
        threads: int = 0,
    ) -> VoxelMap:
        """The map of a file; it answers as the saved one did, bit for bit.

        Args:
            path: The file.
            encoder: Must be the one whose features the map holds. None loads the encoder named in
                the file when the first query comes.
            threads: As in VoxelMapConfig; a file does not say how many to use.

        Raises:
            MapFileError: It is missing, damaged, of another version, or of another encoder.
        """
        content = map_file.read_map(Path(path))
        try:
            return cls._from_file(content, encoder, threads)
        except (ValueError, TypeError, KeyError) as error:
            raise MapFileError(f'{path}: {error}') from error

    @classmethod
    def _from_file(
        cls, content: map_file.MapFile, encoder: TextEncoder | None, threads: int
    ) -> VoxelMap:
        header = content.header
        identity = str(header['encoder'])
        if encoder is not None and int(header['feature_dim']) and encoder.identity != identity:
            raise ValueError(
                f'the map was made with encoder {identity!r}, not with {encoder.identity!r}'
            )
        projection = (
            FeatureProjection.from_arrays(content.projection) if content.projection else None
        )
        config = VoxelMapConfig(**{**header['config'], 'threads': threads})
        loaded = cls(
            config, frame_id=str(header['frame_id']), encoder=encoder, projection=projection
        )
        loaded._adopt(content)
        return loaded

    def _adopt(self, content: map_file.MapFile) -> None:
        header = content.header
        if self._encoder is None:
            self._encoder_identity = str(header['encoder'])
            self._encoder_arguments = dict(header['encoder_arguments'])
        self._encoder_dim = int(header['encoder_dim'])
        self._featured_frames = int(header['featured_frames'])
        self._origin = None if header['origin'] is None else np.array(header['origin'], np.int64)
        if content.keys.size and (content.keys.min() < 0 or self._origin is None):
            raise ValueError('voxel keys are out of range')
        stored = self._projection.reduced_dim if self._projection else self._encoder_dim
        if int(header['feature_dim']) not in (0, stored):
            raise ValueError(
                f'feature_dim {header["feature_dim"]} is not the {stored} of encoder_dim'
            )
        rows = self._index.insert(content.keys)
        if not np.array_equal(rows, np.arange(content.keys.size)):
            raise ValueError('voxels occur twice')
        self._store = VoxelStore.of_chunks(
            content.chunks, content.keys.size, int(header['feature_dim'])
        )

    def _header(self) -> dict[str, Any]:
        arrays = self._projection.to_arrays() if self._projection else {}
        config = asdict(self.config)
        del config['threads']
        return {
            'format': map_file.FORMAT,
            'version': map_file.VERSION,
            'frame_id': self.frame_id,
            'voxel_size_m': self.config.voxel_size_m,
            'encoder': self._encoder_identity,
            'encoder_arguments': self._encoder_arguments,
            'encoder_dim': self._encoder_dim,
            'feature_dim': self._store.feature_dim,
            'projection': {name: list(array.shape) for name, array in arrays.items()},
            'origin': None if self._origin is None else self._origin.tolist(),
            'voxels': len(self),
            'featured_frames': self._featured_frames,
            'config': config,
        }
