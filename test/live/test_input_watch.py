import pytest

from vlm_nodes.live.input_watch import InputWatch

TOPICS = {'rgb': '/rgb', 'depth': '/depth', 'camera_info': '/camera_info'}
MS_NS = 1_000_000


@pytest.fixture
def watch():
    return InputWatch(TOPICS, paired=('rgb', 'depth'), slop_s=0.02, since_s=100.0)


def one(topic):
    return 1


def none(topic):
    return 0


def see(watch, now_s, *, gap_ms=0, count=1, info=True):
    for i in range(count):
        watch.saw('rgb', i * 100 * MS_NS, now_s)
        watch.saw('depth', (i * 100 + gap_ms) * MS_NS, now_s)
    if info:
        watch.saw('camera_info', 0, now_s)


def test_it_is_patient(watch):
    assert watch.complaint(104.9, 5.0, none) is None
    assert watch.complaint(105.0, 5.0, none) is not None


def test_a_pair_makes_it_patient_again(watch):
    watch.saw_pair(103.0)
    assert watch.complaint(107.9, 5.0, none) is None
    assert watch.complaint(108.1, 5.0, none).startswith('no image pair for 5 s: ')


def test_topics_that_nobody_publishes_are_named(watch):
    watch.saw('depth', 0, 104.0)
    said = watch.complaint(106.0, 5.0, none)
    assert 'nobody publishes /rgb' in said
    assert 'nobody publishes /camera_info' in said
    assert '/depth' not in said


def test_a_publisher_that_sends_nothing_is_told_from_none(watch):
    assert '/rgb has 1 publisher(s), but no message has come' in watch.complaint(106.0, 5.0, one)


def test_incompatibility_is_said_until_a_message_comes(watch):
    watch.is_incompatible('rgb', 'too quiet')
    assert '/rgb: too quiet' in watch.complaint(106.0, 5.0, one)
    see(watch, 105.9)
    assert 'too quiet' not in watch.complaint(106.0, 5.0, one)


def test_what_comes_but_is_of_no_use_is_said_until_it_is(watch):
    see(watch, 105.9)
    watch.is_unusable('camera_info', 'fx = 0')
    assert '/camera_info cannot be used: fx = 0' in watch.complaint(106.0, 5.0, one)
    watch.is_unusable('camera_info', '')
    assert 'fx = 0' not in watch.complaint(106.0, 5.0, one)


def test_the_nearest_stamps_are_said_where_none_pair(watch):
    see(watch, 105.9, gap_ms=30, count=5)
    said = watch.complaint(106.0, 5.0, one)
    assert 'never within sync_slop_s = 0.02 s: the nearest were 0.030 s apart' in said


def test_near_stamps_without_a_pair_are_a_queue_that_is_too_short(watch):
    see(watch, 105.9)
    assert 'raise sync_queue' in watch.complaint(106.0, 5.0, one)


def test_only_the_topic_that_stopped_is_named(watch):
    see(watch, 100.5)
    watch.saw_pair(100.5)
    for i in range(200):  # so many that no old stamp of depth is remembered
        watch.saw('depth', i * 100 * MS_NS, 100.5 + i * 0.1)
    said = watch.complaint(120.0, 5.0, one)
    assert '/rgb came, then stopped' in said
    assert '/depth' not in said


def test_one_input_alone_is_watched_too():
    watch = InputWatch({'image': '/image'}, paired=('image',), slop_s=0.1, since_s=100.0)
    assert watch.complaint(106.0, 5.0, none) == (
        'no image for 6 s: nobody publishes /image: check its name and remapping'
    )
    watch.saw('image', 1, 105.0)
    assert 'never within 0.1 s of other cameras' in watch.complaint(106.0, 5.0, one)
    watch.saw_pair(105.0)
    assert watch.complaint(106.0, 5.0, one) is None
    assert '/image came, then stopped' in watch.complaint(111.0, 5.0, one)
