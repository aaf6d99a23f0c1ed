"""caption_node on a real graph: pictures of surround cameras in, texts out."""

import pytest
from caption_rig import (
    ENDLESS,
    PATIENCE_S,
    PROMPT,
    THREE,
    caption,
    caption_rig,
    picture,
    save_model,
)
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from vlm_nodes import messages
from vlm_nodes.clip_vlm.captioner import Captioner
from vlm_nodes.messages import SECOND_NS

TWO = ('CAM_FRONT', 'CAM_BACK')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Says nonsense, without an end."""
    return save_model(tmp_path_factory.mktemp('untaught'))


@pytest.fixture(scope='module')
def taught(tmp_path_factory):
    """Names the colours of two cameras."""
    return save_model(tmp_path_factory.mktemp('taught'), taught=TWO)


@pytest.fixture(scope='module')
def captioner(checkpoint):
    return Captioner.load(checkpoint)


def test_the_service_answers_what_the_cameras_show(ros_domain, taught):
    colours = {'CAM_FRONT': 'green', 'CAM_BACK': 'blue'}

    def prepare(rig):
        rig.images = {name: picture(colour) for name, colour in colours.items()}

    options = {'cameras': TWO, 'max_age_s': 0.0, 'max_new_tokens': 30, 'prepare': prepare}
    with caption_rig(ros_domain, taught, **options) as rig:
        before = rig.until(lambda: rig.node._newest, 'pictures')
        answer = rig.ask()
        assert answer.success, answer.message
        assert (answer.text, answer.message) == (caption(colours), '')
        assert tuple(answer.cameras) == TWO
        assert answer.complete
        # Nothing that had come before the question.
        assert messages.stamp_ns(answer.stamp) > before.stamp_ns
        assert 0 < answer.time_to_first_token_s < answer.latency_s
        back = rig.ask('Is the road free?', ['CAM_BACK'], 3)
        said = Captioner.load(taught).describe(
            {'CAM_BACK': picture('blue')}, 'Is the road free?', max_new_tokens=3
        )
        assert (back.text, list(back.cameras)) == (said.text, ['CAM_BACK'])
        assert (back.tokens, back.complete) == (3, False)
        rig.until(lambda: len(rig.pages) == 2 and len(rig.captions) == 2, 'both as messages')
        assert rig.captions == [answer.text, back.text]
        page = rig.pages[1]
        assert page['text'] == back.text
        assert page['prompt'] == 'Is the road free?'
        assert page['stamp'] == {'sec': back.stamp.sec, 'nanosec': back.stamp.nanosec}
        assert (page['tokens'], page['cameras'], page['missing']) == (3, ['CAM_BACK'], {})
        assert (page['asked'], page['complete']) == (True, False)
        assert page['tokens_per_s'] > 0
        assert 0 < page['time_to_first_token_s'] < page['latency_s']
        assert rig.pages[0]['complete']
        rig.healthy()
        values = rig.values()[1]
        assert values['answers'] == '2'
        assert float(values['ms first token']) < float(values['ms latency'])
        assert float(values['last latency s']) == page['latency_s']
        assert float(values['last time to first token s']) == page['time_to_first_token_s']
        assert values['last text'] == back.text


def test_captions_come_at_their_rate_of_the_newest_pictures(ros_domain, taught):
    with caption_rig(ros_domain, taught, cameras=TWO, rate=20.0, max_new_tokens=30) as rig:
        rig.until(lambda: len(rig.pages) >= 3, 'captions')
        stamps = [page['stamp']['sec'] * SECOND_NS + page['stamp']['nanosec'] for page in rig.pages]
        assert stamps == sorted(set(stamps))  # no moment twice
        assert not any(page['asked'] for page in rig.pages)
        now = caption(dict.fromkeys(TWO, 'red'))
        rig.until(lambda: rig.captions[-1:] == [now], 'what both show')
        rig.images['CAM_BACK'] = picture('green')
        now = caption({'CAM_FRONT': 'red', 'CAM_BACK': 'green'})
        rig.until(lambda: rig.captions[-1] == now, 'what the back shows now')
        rig.images['CAM_FRONT'] = picture('blue')
        now = caption({'CAM_FRONT': 'blue', 'CAM_BACK': 'green'})
        rig.until(lambda: rig.captions[-1] == now, 'what the front shows now')
        rig.until(lambda: rig.count('captions') >= 5, 'their count')


def test_nothing_is_said_unasked_at_rate_0(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint) as rig:
        rig.until(lambda: rig.count('moments in') > 3, 'pictures')
        assert rig.captions == []
        assert rig.ask().success


def test_a_slow_text_drops_pictures_and_makes_way_for_a_question(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, rate=20.0, max_new_tokens=ENDLESS) as rig:
        rig.speaks()
        rig.until(lambda: rig.count('skipped while busy') > 2, 'skipped ticks')
        rig.until(lambda: rig.count('dropped superseded') > 2, 'dropped pictures')
        assert rig.captions == []
        answer = rig.ask(tokens=3)
        assert answer.success, answer.message
        assert answer.tokens == 3
        assert rig.count('captions ended early') >= 1


def test_no_text_begins_ahead_of_a_question_that_is_about_to_come(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, max_new_tokens=ENDLESS) as rig:
        rig.until(lambda: rig.node._newest, 'pictures')
        follow = rig.node._requests.follow

        def tick_and_follow(*arguments):
            rig.node._tick()
            rig.until(rig.node._worker.idle, 'the end of what the tick began')
            follow(*arguments)

        rig.node._requests.follow = tick_and_follow
        answer = rig.ask(tokens=3)
        assert (answer.success, answer.tokens) == (True, 3)
        rig.until(lambda: rig.captions, 'its text')
        assert rig.captions == [answer.text]
        assert rig.count('skipped while busy') == 1


def test_a_long_answer_is_cancelled_and_the_next_one_given(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint) as rig:
        nothing = rig.cancel()
        assert (nothing.success, nothing.message) == (False, 'nothing is being described')
        long = rig.ask_async(tokens=ENDLESS)
        rig.speaks()
        done = rig.cancel()
        assert (done.success, done.message) == (True, '1 cancelled')
        answer = rig.wait(long)
        assert (answer.success, answer.message) == (False, 'cancelled')
        assert answer.tokens < ENDLESS
        assert rig.ask().success
        rig.until(lambda: rig.captions, 'its text')
        assert len(rig.captions) == 1  # of the second alone
        assert rig.values()[1]['refused cancelled'] == '1'


def test_a_text_that_takes_too_long_is_ended_where_it_is(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, longest_s=2.0) as rig:
        answer = rig.ask(tokens=ENDLESS)
        assert answer.success
        assert not answer.complete
        assert answer.message == f'ended after 2 s (longest_s), {answer.tokens} tokens'
        assert 0 < answer.tokens < ENDLESS


def test_more_requests_than_it_can_hold_are_told_so(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint) as rig:
        held = [rig.ask_async(tokens=ENDLESS) for _ in range(2)]
        rig.until(lambda: not rig.node._requests._places._value, 'both to be under way')
        busy = rig.ask()
        assert not busy.success
        assert busy.message.startswith('busy: 2 requests are under way')
        assert rig.cancel().message == '2 cancelled'
        assert [rig.wait(answer).message for answer in held] == ['cancelled', 'cancelled']


def test_a_missing_camera_is_done_without_and_named(ros_domain, checkpoint, captioner):
    options = {
        'camera_alive_s': 2.0,
        'max_age_s': 0.0,
        'prepare': lambda rig: rig.silent.add('CAM_FRONT'),
    }
    with caption_rig(ros_domain, checkpoint, **options) as rig:
        rig.complains('CAM_FRONT', 'has 1 publisher(s), but no message has come')
        answer = rig.ask()
        assert answer.success, answer.message
        assert list(answer.cameras) == ['CAM_FRONT_LEFT', 'CAM_BACK']
        assert answer.message.startswith('CAM_FRONT is left out: ')
        seen = {name: rig.images[name] for name in answer.cameras}
        assert answer.text == captioner.describe(seen, PROMPT, max_new_tokens=4).text
        rig.until(lambda: rig.pages, 'its page')
        assert list(rig.pages[0]['missing']) == ['CAM_FRONT']
        alone = rig.ask(cameras=['CAM_FRONT'])
        assert not alone.success
        assert alone.message.startswith('no picture of CAM_FRONT: ')
        rig.silent.clear()
        rig.ask_until(lambda answer: answer.message == '', 'the camera')


def test_a_camera_that_is_late_once_is_waited_for(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, set_wait_s=0.5, max_age_s=1.0) as rig:
        assert rig.ask().success
        rig.silent.add('CAM_BACK')
        rig.complains('CAM_BACK/image_raw came, then stopped')
        rig.until(lambda: 'CAM_BACK' not in rig.node._newest.images, 'a moment without it')
        waiting = rig.ask_async(cameras=['CAM_BACK', 'CAM_FRONT'])
        rig.until(lambda: rig.node._active or waiting.done(), 'the question')
        rig.silent.clear()
        answer = rig.wait(waiting)
        assert (answer.success, answer.message) == (True, '')
        assert list(answer.cameras) == ['CAM_FRONT', 'CAM_BACK']


def test_a_missing_camera_may_be_too_much(ros_domain, checkpoint):
    options = {
        'camera_alive_s': 2.0,
        'need_all_cameras': True,
        'max_age_s': 0.0,
        'prepare': lambda rig: rig.silent.add('CAM_BACK'),
    }
    with caption_rig(ros_domain, checkpoint, **options) as rig:
        answer = rig.ask()
        assert not answer.success
        assert answer.message.startswith('no picture of CAM_BACK: ')
        assert answer.text == ''
        assert rig.ask(cameras=['CAM_FRONT']).success


def test_questions_that_make_no_sense_are_refused(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint) as rig:
        unknown = rig.ask(cameras=['CAM_FRONT', 'CAM_ROOF'])
        assert unknown.message == f'no camera CAM_ROOF; there are {", ".join(THREE)}'
        assert rig.ask(prompt='  ').message == 'the prompt is blank'
        assert rig.values()[1]['refused request'] == '2'


def test_no_pictures_at_all_is_said(ros_domain, checkpoint):
    options = {'image_timeout_s': 1.0, 'prepare': lambda rig: rig.images.clear()}
    with caption_rig(ros_domain, checkpoint, **options) as rig:
        answer = rig.ask()
        assert not answer.success
        assert 'no pictures within 1 s' in answer.message
        for name in THREE:
            assert f'nobody publishes /{name}/image_raw' in answer.message
        rig.complains('CAM_BACK: no image', 'nobody publishes /CAM_BACK/image_raw')


def test_pictures_that_are_too_old_are_waited_for_anew(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, max_age_s=0.2) as rig:
        assert rig.ask().success
        rig.silent.update(THREE)
        rig.complains('CAM_BACK/image_raw came, then stopped')
        with rig.giving_up():
            answer = rig.ask_until(lambda answer: not answer.success, 'the end of pictures')
        assert 'came, then stopped: is the camera still running?' in answer.message


def test_old_pictures_will_do_where_that_is_allowed(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, max_age_s=-1.0) as rig:
        assert rig.ask().success
        rig.silent.update(THREE)
        rig.complains('came, then stopped')
        with rig.giving_up():
            assert rig.ask().success


def test_a_picture_that_is_none_is_named_and_the_node_goes_on(ros_domain, checkpoint):
    def prepare(rig):
        rig.encoding = 'no_such'

    with caption_rig(ros_domain, checkpoint, max_age_s=0.0, prepare=prepare) as rig:
        answer = rig.ask()
        assert not answer.success
        assert 'no picture of CAM_FRONT_LEFT: ' in answer.message
        assert 'no_such' in answer.message
        rig.complains('CAM_BACK', 'no_such')
        rig.encoding = 'rgb8'
        answer = rig.ask_until(lambda answer: answer.message == '', 'good pictures alone')
        assert answer.success
        rig.healthy()


def test_compressed_pictures_are_as_good(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, compressed=True) as rig:
        answer = rig.ask()
        assert answer.success, answer.message
        assert tuple(answer.cameras) == THREE


def test_the_prompt_may_be_changed_while_it_runs(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, rate=20.0, prompt='What is ahead?') as rig:
        rig.until(lambda: rig.pages, 'a caption')
        assert rig.pages[0]['prompt'] == 'What is ahead?'
        rig.node.set_parameters([Parameter('prompt', value='What is behind?')])
        rig.until(lambda: rig.pages[-1]['prompt'] == 'What is behind?', 'the other prompt')
        rig.node.set_parameters([Parameter('prompt', value='')])
        rig.until(lambda: rig.pages[-1]['prompt'] == PROMPT, 'the prompt of training')
        # A blank one is complained about, and the node goes on.
        rig.node.set_parameters([Parameter('prompt', value='  ')])
        rig.complains('prompt')
        rig.node.set_parameters([Parameter('prompt', value='')])
        seen = len(rig.pages)
        rig.until(lambda: len(rig.pages) > seen, 'captions again')


def test_time_that_begins_anew_ends_the_text_and_the_next_pictures_are_used(ros_domain, checkpoint):
    def prepare(rig):
        rig.stamp_ns = 1000 * SECOND_NS

    with caption_rig(ros_domain, checkpoint, prepare=prepare) as rig:
        long = rig.ask_async(tokens=ENDLESS)
        rig.speaks()
        rig.stamp_ns = 10 * SECOND_NS
        answer = rig.wait(long)
        assert not answer.success
        assert 'jumped back while it was described' in answer.message
        answer = rig.ask()
        assert answer.success
        assert answer.stamp.sec == 10
        assert rig.count('restarts of time') >= 1


def test_simulated_time_that_stands_still_is_said_and_one_that_jumps_back_noticed(
    ros_domain, checkpoint
):
    options = {'use_sim_time': True, 'prepare': lambda rig: rig.silent.update(THREE)}
    with caption_rig(ros_domain, checkpoint, **options) as rig:
        with rig.giving_up():
            assert 'nobody publishes /clock' in rig.ask().message
        clock = rig.robot.create_publisher(Clock, '/clock', 10)
        now = Clock(clock=messages.stamp_message(100 * SECOND_NS))
        rig.robot.create_timer(0.05, lambda: clock.publish(now))
        rig.stamp_ns = 100 * SECOND_NS
        rig.silent.clear()
        rig.ask_until(lambda answer: answer.success, 'an answer')
        restarts = rig.count('restarts of time')
        rig.silent.update(THREE)  # the clock alone tells
        now.clock.sec = 10
        rig.until(lambda: rig.count('restarts of time') > restarts, 'the jump')
        rig.stamp_ns = 10 * SECOND_NS
        rig.silent.clear()
        rig.ask_until(lambda answer: answer.stamp.sec == 10, 'an answer of the time after it')


def test_the_node_ends_while_it_speaks(ros_domain, checkpoint):
    with caption_rig(ros_domain, checkpoint, rate=20.0, max_new_tokens=ENDLESS) as rig:
        rig.speaks()
        worker = rig.node._worker
        rig.ends_texts = False
    assert worker.stop(PATIENCE_S)  # its thread has ended
