"""Pairs and sets of the newest images."""

import threading
import time

import pytest

from vlm_nodes.cliport.views import NewestViews, NoImagesError

SECOND = 1_000_000_000


def wait(views, after_ns=None, after_s=-1.0, timeout_s=0.0, is_over=lambda: False):
    return views.wait(after_ns, after_s, timeout_s, is_over)


def pair(views, camera, stamp_ns):
    views.put(camera, 'rgb', stamp_ns, f'{camera} rgb {stamp_ns}')
    return views.put(camera, 'depth', stamp_ns, f'{camera} depth {stamp_ns}')


def test_colour_and_depth_are_paired_by_their_stamps():
    views = NewestViews(['front'], slop_s=0.02)
    assert not views.put('front', 'rgb', SECOND, 'a')
    assert not views.put('front', 'rgb', 2 * SECOND, 'b')
    assert not views.put('front', 'depth', 3 * SECOND, 'far from all')
    assert views.put('front', 'depth', SECOND + 10_000_000, 'of a')
    newest = views.newest()['front']
    assert (newest.stamp_ns, newest.rgb, newest.depth) == (SECOND, 'a', 'of a')
    assert views.put('front', 'depth', 2 * SECOND, 'of b')
    assert views.newest()['front'].rgb == 'b'
    assert not views.put('front', 'depth', SECOND, 'of a, late')
    assert views.newest()['front'].rgb == 'b'


def test_a_set_needs_every_camera_and_says_which_lacks_what():
    views = NewestViews(['front', 'left', 'right'], slop_s=0.02)
    pair(views, 'front', SECOND)
    views.put('left', 'rgb', SECOND, 'rgb')
    views.put('right', 'rgb', SECOND, 'rgb')
    views.put('right', 'depth', 5 * SECOND, 'depth')
    with pytest.raises(NoImagesError) as error:
        wait(views)
    assert str(error.value) == (
        'no images of all cameras within 0 s: left sent no depth; '
        'right has colour and depth, but their stamps are never near each other'
    )
    views.put('left', 'depth', SECOND, 'depth')
    views.put('right', 'depth', SECOND, 'depth')
    assert set(wait(views)) == {'front', 'left', 'right'}


def test_old_images_do_not_do():
    views = NewestViews(['front'], slop_s=0.02)
    pair(views, 'front', SECOND)
    with pytest.raises(NoImagesError, match=r'newest images are 0\.50 s too old'):
        wait(views, after_ns=3 * SECOND // 2)
    with pytest.raises(NoImagesError, match='nothing new since it was asked'):
        wait(views, after_s=time.monotonic())
    pair(views, 'front', 2 * SECOND)
    assert wait(views, after_ns=3 * SECOND // 2)['front'].stamp_ns == 2 * SECOND


def test_images_that_come_end_the_wait():
    views = NewestViews(['front'], slop_s=0.02)
    timer = threading.Timer(0.05, pair, [views, 'front', SECOND])
    timer.start()
    assert wait(views, timeout_s=20.0)['front'].stamp_ns == SECOND
    timer.join()


def test_nobody_waits_for_what_nobody_needs():
    views = NewestViews(['front'], slop_s=0.02)
    with pytest.raises(NoImagesError):
        wait(views, timeout_s=1000.0, is_over=lambda: True)


def test_forgotten_images_are_gone():
    views = NewestViews(['front'], slop_s=0.02)
    pair(views, 'front', 5 * SECOND)
    views.forget()
    assert views.newest() == {}
    pair(views, 'front', SECOND)  # time began anew
    assert views.newest()['front'].stamp_ns == SECOND
