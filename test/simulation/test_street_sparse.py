import numpy as np
import pytest

from vlm_nodes.simulation.street.captions import describe_view
from vlm_nodes.simulation.street.recorder import Recorder, Settings
from vlm_nodes.simulation.street.sparse import record_sparse, sparse_street
from vlm_nodes.simulation.vocabulary import COLOUR_RGB
from vlm_nodes.surround.keyframe import CAMERAS


@pytest.fixture(scope='module')
def squares():
    with Recorder(Settings(width=160, height=96, samples=0)) as recorder:
        return list(record_sparse(recorder, range(6)))


def test_no_camera_sees_two_things_and_some_see_none(squares):
    counts = [len(seen) for square in squares for seen in square.seen.values()]
    assert len(counts) == 6 * len(CAMERAS)
    assert set(counts) == {0, 1}
    assert np.mean(counts) > 0.7
    assert describe_view([]) == 'an empty street'


def test_things_have_the_colour_that_captions_say(squares):
    """The most colourful tenth of a thing's pixels has the hue, or lack of one, of its name."""
    for square in squares:
        for name, seen in square.seen.items():
            for sighting in seen:
                view = square.views[name]
                pixels = view.rgb[view.things == sighting.thing.number].astype(float)
                wanted = np.array(COLOUR_RGB[sighting.thing.colour])
                direction = wanted / np.linalg.norm(wanted)
                lit = pixels[pixels.sum(1) > 12]
                cosine = lit @ direction / np.linalg.norm(lit, axis=1)
                assert np.quantile(cosine, 0.9) > 0.95, (square.seed, name, sighting.thing.text)


def test_squares_follow_from_their_seed_and_attempt():
    one, two = (sparse_street(3, CAMERAS) for _ in range(2))
    assert one == two
    assert sparse_street(3, CAMERAS, 1).things != one.things
