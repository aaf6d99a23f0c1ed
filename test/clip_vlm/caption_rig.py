"""caption_node and a vehicle with surround cameras, on a ROS graph of their own."""

from __future__ import annotations

import itertools
import json
import random
import time
from contextlib import contextmanager

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from fresh_diagnostics import fresh_status
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vlm_interfaces.srv import Describe

from vlm_nodes import messages
from vlm_nodes.clip_vlm.batches import Batch, Views
from vlm_nodes.clip_vlm.checkpoint import Page, save_checkpoint
from vlm_nodes.clip_vlm.clip_views import ClipConfig, ClipViews
from vlm_nodes.clip_vlm.connector import ConnectorConfig
from vlm_nodes.clip_vlm.dialogue import make_rows, view_name
from vlm_nodes.clip_vlm.model import ClipVlm, make_connector
from vlm_nodes.clip_vlm.node import CaptionNode
from vlm_nodes.clip_vlm.qwen import Qwen
from vlm_nodes.clip_vlm.tiny_qwen import write_tiny_qwen
from vlm_nodes.graph.spinner import Spinner
from vlm_nodes.surround import CAMERAS

PATIENCE_S = 60.0
QUICK_S = 0.5
PERIOD_S = 0.1
PROMPT = 'What do the cameras show?'
THREE = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_BACK')
# A text that nobody ends goes on for longer than any test.
ENDLESS = 4000
COLOURS = {'red': (200, 30, 30), 'green': (30, 170, 40), 'blue': (30, 40, 200)}


def save_model(folder, cameras=CAMERAS, taught=()):
    """A checkpoint of a tiny Qwen and its connector, the same each time.

    Untaught, what it says is nonsense and goes on until it is ended; otherwise it names the colours
    of the cameras `taught`, after some seconds of training.
    """
    texts = [PROMPT, caption(dict.fromkeys(cameras, 'red')), *COLOURS]
    write_tiny_qwen(folder / 'qwen', texts, 'qwen3', hidden_size=32, layers=2, seed=5)
    clip = ClipViews(ClipConfig(grid=(1, 2)))
    model = _model(folder / 'qwen', clip, cameras)
    # Only a test may change a Qwen's own weights.
    if taught:
        _teach(model, clip, taught)
    else:
        _never_end(model.qwen)
    model.qwen.model.save_pretrained(folder / 'qwen')
    connector, model = model.connector, _model(folder / 'qwen', clip, cameras)
    model.connector.load_state_dict(connector.state_dict())
    sizes = model.connector.config
    page = Page('lm', PROMPT, clip.config, clip.identity, model.qwen.identity, sizes)
    save_checkpoint(folder / 'trained', page, model.connector)
    return folder / 'trained'


def _model(qwen, clip, cameras):
    qwen = Qwen.load(qwen)
    sizes = ConnectorConfig(clip.dim, (1, 2), qwen.hidden_size, tuple(cameras), (1, 2), 32, 4, 1)
    return ClipVlm(make_connector(sizes, seed=5), qwen)


def _never_end(qwen):
    """Of hundreds of tokens, some other always fits better than an end at 0."""
    with torch.no_grad():
        qwen.model.get_output_embeddings().weight[qwen.end_id] = 0.0


def _teach(model, clip, cameras, steps=150, size=9):
    known = model.connector.config.cameras
    places = [known.index(camera) for camera in cameras]
    seen = {name: torch.from_numpy(clip.tokens(picture(name))) for name in COLOURS}
    question = model.dialogue.question(cameras, PROMPT)
    lessons = []
    for colours in itertools.product(COLOURS, repeat=len(cameras)):
        answer = caption(dict(zip(cameras, colours, strict=True)))
        views = (places, torch.stack([seen[colour] for colour in colours]))
        lessons.append((views, model.dialogue.answer(answer)))
    model.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    draw = random.Random(0)
    for _ in range(steps):
        views, answers = zip(*draw.sample(lessons, size), strict=True)
        rows = make_rows([question] * size, answers, model.qwen.pad_id)
        optimiser.zero_grad()
        model.caption_loss(Batch(('',) * size, Views.of(views), None, rows)).backward()
        optimiser.step()
    model.eval()


def caption(colours):
    """What is to be said of the colours of cameras."""
    return ' '.join(f'{view_name(camera)} {colour}.' for camera, colour in colours.items())


def picture(colour):
    """A picture of one colour, (32, 48, 3) uint8 RGB."""
    return np.full((32, 48, 3), COLOURS[colour], np.uint8)


class QuickNode(CaptionNode):
    patience_s = QUICK_S
    watch_period_s = 0.1


class Rig:
    """The node under test, and cameras that publish until told otherwise.

    Attributes:
        images: What each camera shows, by name; may be changed at any time. A camera that shows
            nothing at the start has no publisher.
        silent: Cameras that send nothing.
        encoding: That images say they have.
        stamp_ns: Of all images, and a little more of each; None for that of now.
        ends_texts: Whether texts are ended before the node is, as those that somebody waits for.
        captions: Texts published.
        pages: Their stamped variants, read.
    """

    def __init__(
        self,
        context,
        checkpoint,
        *,
        cameras=THREE,
        compressed=False,
        prepare=lambda rig: None,
        **parameters,
    ):
        self.images = {name: picture('red') for name in cameras}
        self.silent, self.encoding, self.stamp_ns = set(), 'rgb8', None
        self._compressed, self.ends_texts = compressed, True
        parameters = {
            'checkpoint': str(checkpoint),
            'cameras': list(cameras),
            'sensor_reliability': 'reliable',
            'image_transport': 'compressed' if compressed else 'raw',
            # A busy machine delivers late: only tests that say so do without what does not come.
            'set_wait_s': 10.0,
            'camera_alive_s': PATIENCE_S,
            'image_timeout_s': PATIENCE_S,
            'longest_s': 10 * PATIENCE_S,
            'max_new_tokens': 4,
            'rate': 0.0,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = QuickNode(context=context, parameter_overrides=overrides)
        self.context = context
        self.robot = rclpy.create_node('robot', context=context)
        self.diagnostics, self.captions, self.pages = [], [], []
        heard = {
            (DiagnosticArray, '/diagnostics'): self.diagnostics.append,
            (String, 'caption_node/caption'): lambda m: self.captions.append(m.data),
            (String, 'caption_node/caption_stamped'): lambda m: self.pages.append(
                json.loads(m.data)
            ),
        }
        ears = [
            self.robot.create_subscription(kind, topic, take, 1000)
            for (kind, topic), take in heard.items()
        ]
        self.describe = self.robot.create_client(Describe, 'caption_node/describe')
        self.trigger = self.robot.create_client(Trigger, 'caption_node/cancel')
        kind, end = (CompressedImage, '/compressed') if compressed else (Image, '')
        # Whatever a test wants otherwise is so before the first picture.
        prepare(self)
        self.publishers = {
            name: self.robot.create_publisher(kind, f'{name}/image_raw{end}', 10)
            for name in self.images
        }
        self._meet(ears)
        self._shots = itertools.count(1)
        self.robot.create_timer(PERIOD_S, self.shoot)
        self._spinners = [Spinner(node, threads=4) for node in (self.node, self.robot)]

    def _meet(self, ears):
        """Each side knows of the other's publishers: nothing that is sent gets lost."""
        topics = [publisher.topic_name for publisher in self.publishers.values()]
        takers = [s for s in self.node.subscriptions if s.topic_name in topics]
        self.until(lambda: all(s.get_publisher_count() for s in (*takers, *ears)), 'publishers')
        senders = [self.node._captions, self.node._pages, self.node._diagnostics]
        senders += self.publishers.values()
        self.until(lambda: all(p.get_subscription_count() for p in senders), 'listeners')

    def end(self):
        """End what is being said first: who waits for it keeps a thread."""
        if self.ends_texts:
            self.node._end('the test ends', lambda request: True)
        for spinner in self._spinners:
            spinner.end(PATIENCE_S)
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    def shoot(self):
        """All cameras take a picture, of now or of `stamp_ns`."""
        # Pictures that are no newer than those before them are not used.
        shot = next(self._shots)
        now = self.stamp_ns + shot if self.stamp_ns else self.robot.get_clock().now().nanoseconds
        for name, rgb in list(self.images.items()):
            header = messages.header_message(name, now)
            if self._compressed:
                message = messages.jpeg_message(rgb, header)
            else:
                message = messages.image_message(rgb, 'rgb8', header)
                message.encoding = self.encoding
            if name not in self.silent:
                self.publishers[name].publish(message)

    # Watching

    def until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            assert time.monotonic() < deadline, f'never came: {what}'
            time.sleep(0.005)
        return found

    def values(self):
        """Diagnostics made from now on: the message, and values by key."""
        status = fresh_status(self.node, self.diagnostics, self.until)
        return messages.diagnostics_values(status)

    def count(self, what):
        """How often it happened, in diagnostics made from now on."""
        return int(self.values()[1].get(what, 0))

    def complains(self, *words):
        """Wait for diagnostics made from now on whose message has all of these."""

        def problem():
            said = self.values()[0]
            return said if all(word in said for word in words) else None

        return self.until(problem, words)

    def healthy(self):
        self.until(lambda: self.values()[0] == '', 'a node without a problem')

    @contextmanager
    def giving_up(self):
        """Meanwhile the node waits for pictures briefly only."""
        self.node._values['image_timeout_s'] = QUICK_S
        yield
        self.node._values['image_timeout_s'] = PATIENCE_S

    # Asking

    def ask_async(self, prompt='', cameras=(), tokens=0):
        self.until(self.describe.service_is_ready, 'the service')
        request = Describe.Request(prompt=prompt, cameras=list(cameras), max_new_tokens=tokens)
        return self.describe.call_async(request)

    def ask(self, *arguments, **options):
        return self.wait(self.ask_async(*arguments, **options))

    def ask_until(self, is_so, what):
        """Ask until an answer is so: pictures taken before may still be on their way."""

        def answer():
            answer = self.ask()
            return answer if is_so(answer) else None

        return self.until(answer, what)

    def cancel(self):
        self.until(self.trigger.service_is_ready, 'the service to cancel')
        return self.wait(self.trigger.call_async(Trigger.Request()))

    def wait(self, future):
        self.until(future.done, 'an answer')
        return future.result()

    def speaks(self):
        """Wait until a text is being written."""
        # A list at once: the node's threads change the set.
        self.until(lambda: any(request.stamp_ns for request in list(self.node._active)), 'a text')


@contextmanager
def caption_rig(domain, checkpoint, **options):
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    rig = Rig(context, checkpoint, **options)
    try:
        yield rig
    finally:
        rig.end()
