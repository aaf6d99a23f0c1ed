import numpy as np
import pytest

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.prompts import FIFTEEN, OCC3D_PROMPTS, SEVENTEEN, read_prompts
from vlm_nodes.langocc.retrieval import PointQueries, read_benchmark, write_benchmark
from vlm_nodes.langocc.scoring import OccupancyScore, Retrieval, average_precision
from vlm_nodes.surround import Occupancy
from vlm_nodes.surround.occupancy import CLASSES, FREE

CAR, ROAD = CLASSES.index('car'), CLASSES.index('driveable_surface')


def labels(numbers, seen=None):
    semantics = np.array(numbers, np.uint8).reshape(1, 1, -1)
    mask = np.ones(semantics.shape, bool) if seen is None else np.array(seen).reshape(1, 1, -1)
    return Occupancy(semantics, mask.astype(bool), np.zeros(semantics.shape, bool))


def test_a_perfect_prediction_scores_one():
    score = OccupancyScore()
    truth = labels([CAR, ROAD, ROAD, FREE])
    score.add(truth, truth.semantics)
    figures = score.figures()
    assert figures['iou'] == figures['miou_17'] == figures['miou_15'] == 1.0
    assert figures['classes_present'] == 2


def test_scores_are_those_counted_by_hand():
    score = OccupancyScore()
    truth = labels([CAR, CAR, ROAD, FREE, FREE, ROAD])
    predicted = np.array([CAR, ROAD, ROAD, CAR, FREE, FREE], np.uint8).reshape(1, 1, -1)
    score.add(truth, predicted)
    # Occupied: 3 of both, 5 of either. Car: 1 of 3; road: 1 of 3.
    assert score.iou() == pytest.approx(3 / 5)
    assert score.class_iou()['car'] == pytest.approx(1 / 3)
    assert score.class_iou()['driveable_surface'] == pytest.approx(1 / 3)
    assert score.miou(SEVENTEEN) == pytest.approx(1 / 3)


def test_what_no_camera_sees_does_not_count():
    score = OccupancyScore()
    score.add(labels([CAR, ROAD, FREE], [1, 0, 1]), np.array([CAR, CAR, FREE]).reshape(1, 1, 3))
    assert score.iou() == 1
    assert score.figures()['classes_present'] == 1


def test_fifteen_classes_leave_out_two():
    other = CLASSES.index('others')
    score = OccupancyScore()
    score.add(labels([other, CAR]), np.array([FREE, CAR], np.uint8).reshape(1, 1, 2))
    assert score.miou(SEVENTEEN) == pytest.approx(0.5)
    assert score.miou(FIFTEEN) == 1
    assert (len(SEVENTEEN), len(FIFTEEN)) == (17, 15)


def test_labels_of_another_grid_are_refused():
    with pytest.raises(LangOccError, match='another grid'):
        OccupancyScore().add(labels([CAR]), np.zeros((2, 2, 2), np.uint8))


def test_average_precision_is_that_of_its_definition():
    wanted = np.array([1, 0, 1, 0, 0, 1], bool)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert average_precision(wanted, scores) == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert average_precision(wanted, wanted.astype(float)) == 1


def test_equal_scores_have_no_order():
    wanted = np.array([1, 0, 0, 0], bool)
    assert average_precision(wanted, np.zeros(4)) == pytest.approx(0.25)
    assert average_precision(wanted[::-1], np.zeros(4)) == pytest.approx(0.25)


def test_random_scores_find_as_much_as_there_is():
    rng = np.random.default_rng(0)
    wanted = rng.random(40_000) < 0.1
    retrieval = Retrieval()
    retrieval.add(wanted, rng.random(40_000))
    retrieval.add(np.zeros(5, bool), np.zeros(5))
    assert len(retrieval.precisions) == 1
    assert retrieval.figures()['ratio'] == pytest.approx(1, abs=0.1)


def test_average_precision_names_what_is_wrong():
    with pytest.raises(LangOccError, match='0 wanted'):
        average_precision(np.zeros(3, bool), np.zeros(3))
    with pytest.raises(LangOccError, match='finite'):
        average_precision(np.ones(2, bool), np.array([0.0, np.nan]))


def test_queries_survive_a_file(tmp_path):
    queries = [
        PointQueries('a', 'red car', np.array([1, 0, 1], bool), np.array([0, 1, 1], bool), 'val'),
        PointQueries('b', 'tree', np.array([0, 1], bool), np.array([0, 0], bool), 'test'),
    ]
    write_benchmark(tmp_path / 'queries.csv', queries)
    first = (tmp_path / 'queries.csv').read_text().splitlines()[0]
    assert first == 'token;split;ann;pts;query'
    back = read_benchmark(tmp_path / 'queries.csv')
    for one, other in zip(queries, back, strict=True):
        assert (one.token, one.query, one.split) == (other.token, other.query, other.split)
        np.testing.assert_array_equal(one.wanted, other.wanted)
        np.testing.assert_array_equal(one.visible, other.visible)
    assert [q.token for q in read_benchmark(tmp_path / 'queries.csv', 'test')] == ['b']


def test_broken_queries_are_named(tmp_path):
    path = tmp_path / 'queries.csv'
    with pytest.raises(LangOccError, match=r'queries\.csv'):
        read_benchmark(path)
    path.write_text('token;query\na;car\n')
    with pytest.raises(LangOccError, match='columns'):
        read_benchmark(path)
    path.write_text('token;split;ann;pts;query\na;val;none.npy;none.npy;car\n')
    with pytest.raises(LangOccError, match=r'none\.npy'):
        read_benchmark(path)


def test_prompts_cover_the_seventeen_classes_and_come_from_files(tmp_path):
    assert tuple(OCC3D_PROMPTS) == SEVENTEEN
    path = tmp_path / 'prompts.json'
    path.write_text('{"truck": ["lorry"], "car": ["car", "taxi"]}')
    assert read_prompts(path) == {'car': ('car', 'taxi'), 'truck': ('lorry',)}
    path.write_text('{"unicorn": ["unicorn"], "car": []}')
    with pytest.raises(LangOccError, match=r"'unicorn'.*'car'"):
        read_prompts(path)
