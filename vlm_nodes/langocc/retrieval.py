"""Retrieval of LiDAR points by words, on files in the layout of POP-3D's benchmark.

A CSV file with the columns `token;split;ann;pts;query`: a sample, its split, a file of one number
a LiDAR point (1 where it is of what is asked for), a file of the indices of points that a camera
sees, and the words. Files are .npy, their names relative to the CSV file.
Source: Vobecky et al., POP-3D, NeurIPS 2023.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vlm_nodes.geometry.rigid import transform_points
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.predictor import Predictor
from vlm_nodes.langocc.scoring import Retrieval
from vlm_nodes.langocc.vocabulary import EncodeText, in_volume
from vlm_nodes.surround import NuScenes, read_points

COLUMNS: Final = ('token', 'split', 'ann', 'pts', 'query')


@dataclass(frozen=True)
class PointQueries:
    """One question about one sweep.

    Attributes:
        token: Of the sample.
        query: Words.
        wanted: (N,) bool, of each LiDAR point.
        visible: (N,) bool; points that a camera sees.
        split: Of the sample.
    """

    token: str
    query: str
    wanted: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    split: str = ''


def read_benchmark(path: Path, split: str | None = None) -> list[PointQueries]:
    """The questions of a file, of one split or of all.

    Raises:
        LangOccError: The file or one that it names is missing or broken.
    """
    try:
        with path.open(newline='', encoding='utf-8') as stream:
            rows = list(csv.DictReader(stream, delimiter=';'))
    except (OSError, ValueError, csv.Error) as error:
        raise LangOccError(f'{path} holds no queries: {error}') from error
    if not rows or set(COLUMNS) - set(rows[0]):
        raise LangOccError(f'{path} needs rows with the columns {";".join(COLUMNS)}')
    return [_read_row(path, row) for row in rows if split is None or row['split'] == split]


def _read_row(path: Path, row: Mapping[str, str]) -> PointQueries:
    if any(row[name] is None for name in COLUMNS):
        raise LangOccError(f'{path}: the row of {row["token"]!r} is cut short')
    wanted = _read_array(path.parent / row['ann']).astype(bool)
    indices = _read_array(path.parent / row['pts']).astype(np.int64)
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(wanted):
        raise LangOccError(f'{path.parent / row["pts"]} has indices past {len(wanted)} points')
    visible = np.zeros(len(wanted), bool)
    visible[indices] = True
    return PointQueries(row['token'], row['query'], wanted, visible, row['split'])


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LangOccError(f'{path} holds no array: {error}') from error
    if array.ndim != 1:
        raise LangOccError(f'{path} has shape {array.shape}, not (N,)')
    return array


def write_benchmark(path: Path, queries: Sequence[PointQueries]) -> None:
    """Write questions in the same layout; arrays go to `arrays/` beside the file."""
    folder = path.parent / 'arrays'
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, query in enumerate(queries):
        names = [f'arrays/{number:05d}_{kind}.npy' for kind in ('wanted', 'visible')]
        np.save(path.parent / names[0], query.wanted.astype(np.uint8), allow_pickle=False)
        np.save(path.parent / names[1], np.flatnonzero(query.visible), allow_pickle=False)
        rows.append((query.token, query.split, *names, query.query))
    with path.open('w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream, delimiter=';', lineterminator='\n')
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def score_retrieval(
    predictor: Predictor,
    drives: Sequence[NuScenes],
    encode: EncodeText,
    queries: Sequence[PointQueries],
) -> dict[str, dict[str, float]]:
    """Average precision over all points in the grid, and over those that a camera sees.

    Returns:
        `map`, `prevalence` and `ratio` under `all` and `visible`.

    Raises:
        LangOccError: A query's sample is in no data set, or has another number of points.
    """
    found = {d[i].token: (d, i) for d in drives for i in range(len(d))}
    scores = {'all': Retrieval(), 'visible': Retrieval()}
    by_token: dict[str, list[PointQueries]] = {}
    for query in queries:
        if query.token not in found:
            raise LangOccError(f'sample {query.token!r} of query {query.query!r} is not there')
        by_token.setdefault(query.token, []).append(query)
    for token, group in tqdm(by_token.items(), unit='sweep', desc='retrieval', disable=None):
        data, place = found[token]
        keyframe = data[place]
        if keyframe.lidar is None:
            raise LangOccError(f'keyframe {token!r} has no LiDAR sweep: open with lidar=True')
        points = transform_points(keyframe.lidar.ego_from_lidar, read_points(keyframe.lidar)[:, :3])
        inside = predictor.config.grid.voxel_of(points)[1]
        features = predictor.predict_place(data, place).features_at(points[inside])
        vectors = in_volume(predictor.checkpoint, encode, [query.query for query in group])
        for query, vector in zip(group, vectors, strict=True):
            if len(query.wanted) != len(points):
                raise LangOccError(
                    f'query {query.query!r} of {token!r} is about {len(query.wanted)} points, '
                    f'the sweep has {len(points)}'
                )
            cosine = features @ vector
            seen = query.visible[inside]
            scores['all'].add(query.wanted[inside], cosine)
            scores['visible'].add(query.wanted[inside][seen], cosine[seen])
    return {kind: score.figures() for kind, score in scores.items()}
