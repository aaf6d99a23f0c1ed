import pytest

from vlm_nodes.live.image_sets import ImageSets

CAMERAS = ('front', 'left', 'back')
MS_NS = 1_000_000


def sets(now_s=0.0, cameras=CAMERAS):
    return ImageSets(cameras, slop_s=0.1, wait_s=0.2, alive_s=2.0, now_s=now_s)


def put(held, camera, stamp_ms, now_s):
    return held.put(camera, stamp_ms * MS_NS, f'{camera} {stamp_ms}', now_s)


def test_a_set_is_ready_with_its_last_image():
    held = sets()
    assert put(held, 'back', 1000, 0.1) is None
    assert put(held, 'front', 1040, 0.12) is None
    ready = put(held, 'left', 1020, 0.15)
    assert dict(ready.images) == {'front': 'front 1040', 'left': 'left 1020', 'back': 'back 1000'}
    assert list(ready.images) == list(CAMERAS)
    assert ready.stamp_ns == 1040 * MS_NS
    assert ready.arrived_s == 0.1
    assert held.due(9.0) is None


def test_the_newest_image_of_a_camera_wins():
    held = sets()
    put(held, 'front', 1000, 0.1)
    put(held, 'front', 1050, 0.15)
    put(held, 'left', 1060, 0.16)
    assert put(held, 'back', 1060, 0.17).images['front'] == 'front 1050'


def test_a_late_camera_is_waited_for_and_then_done_without():
    held = sets()
    put(held, 'front', 1000, 0.1)
    put(held, 'left', 1000, 0.1)
    assert held.due(0.29) is None
    assert list(held.due(0.31).images) == ['front', 'left']
    # What comes for a set that is gone makes none of its own.
    assert put(held, 'back', 1000, 0.4) is None
    assert held.due(9.0) is None


def test_images_that_are_replaced_do_not_keep_a_set_waiting():
    held = sets()
    for i in range(5):
        put(held, 'front', 1000 + 50 * i, 0.1 + 0.05 * i)
        put(held, 'left', 1000 + 50 * i, 0.1 + 0.05 * i)
    assert dict(held.due(0.31).images) == {'front': 'front 1200', 'left': 'left 1200'}


def test_a_silent_camera_is_not_waited_for_until_it_sends_again():
    held = sets()
    put(held, 'front', 500, 1.0)
    put(held, 'left', 500, 1.0)
    assert held.due(1.3)
    put(held, 'front', 1000, 2.1)
    assert list(put(held, 'left', 1000, 2.1).images) == ['front', 'left']
    put(held, 'back', 1000, 2.2)
    put(held, 'front', 1500, 2.6)
    assert put(held, 'left', 1500, 2.6) is None
    assert len(put(held, 'back', 1510, 2.61).images) == 3


def test_the_first_image_after_all_were_silent_waits_for_the_others():
    held = sets()
    assert put(held, 'front', 9000, 9.0) is None
    assert put(held, 'left', 9010, 9.01) is None
    assert len(put(held, 'back', 9020, 9.02).images) == 3
    # Also where they come more seldom than a camera may be silent; one of them never again.
    assert put(held, 'front', 13000, 13.0) is None
    assert put(held, 'left', 13010, 13.01) is None
    assert list(held.due(13.21).images) == ['front', 'left']


def test_images_too_far_apart_are_not_put_together():
    held = sets()
    put(held, 'front', 1000, 0.1)
    put(held, 'back', 1500, 0.2)
    assert put(held, 'left', 1500, 0.2) is None
    assert list(held.due(0.5).images) == ['left', 'back']


def test_after_time_began_anew_old_stamps_are_new():
    held = sets(cameras=('front',))
    assert put(held, 'front', 5000, 0.1)
    assert put(held, 'front', 1000, 0.2) is None
    held.clear(0.3)
    assert put(held, 'front', 1000, 0.4)


def test_what_makes_no_sense_is_named():
    with pytest.raises(ValueError, match='different names'):
        sets(cameras=('front', 'front'))
    with pytest.raises(ValueError, match='different names'):
        sets(cameras=())
    with pytest.raises(ValueError, match='wait_s = -1'):
        ImageSets(CAMERAS, slop_s=0.1, wait_s=-1, alive_s=1, now_s=0)
    with pytest.raises(KeyError):
        put(sets(), 'top', 1, 0.1)
