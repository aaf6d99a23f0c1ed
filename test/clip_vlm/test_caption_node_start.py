"""How caption_node starts, how it does not, and how it ends."""

import json
from pathlib import Path

import pytest
import rclpy
import yaml
from caption_rig import ENDLESS, PATIENCE_S, PROMPT, save_model
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.parameter import Parameter
from std_msgs.msg import String
from vlm_interfaces.srv import Describe

from vlm_nodes import messages
from vlm_nodes.clip_vlm.checkpoint import CONNECTOR_NAME
from vlm_nodes.clip_vlm.node import CaptionNode
from vlm_nodes.clip_vlm.parameters import PARAMETERS
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.node import StartError
from vlm_nodes.surround import CAMERAS

CONFIG = Path(__file__).resolve().parents[2] / 'config/clip_vlm.yaml'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp('clip_vlm'))


@pytest.fixture
def refused(ros_domain):
    """What the node says that does not start."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)

    def start(**parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        with pytest.raises(StartError) as error:
            CaptionNode(context=context, parameter_overrides=overrides)
        assert '\n' not in str(error.value)
        return str(error.value)

    yield start
    context.try_shutdown()


def test_what_does_not_fit_is_named(refused, checkpoint, tmp_path):
    whole = str(checkpoint)
    assert 'parameter checkpoint is empty' in refused()
    assert str(tmp_path) in refused(checkpoint=str(tmp_path))
    said = refused(checkpoint=whole, cameras=['CAM_FRONT', 'CAM_ROOF'])
    assert said.startswith('the checkpoint knows no camera CAM_ROOF; its cameras are CAM_FRONT_L')
    assert 'twice' in refused(checkpoint=whole, cameras=['CAM_FRONT', 'CAM_FRONT'])
    assert 'warp' in refused(checkpoint=whole, device='warp')
    assert 'quant' in refused(checkpoint=whole, quant='none-bit')
    assert str(tmp_path / 'gone') in refused(checkpoint=whole, base=str(tmp_path / 'gone'))
    assert 'range' in refused(checkpoint=whole, rate=-1.0)


def test_a_damaged_checkpoint_is_named(refused, tmp_path):
    folder = save_model(tmp_path)
    content = (folder / CONNECTOR_NAME).read_bytes()
    (folder / CONNECTOR_NAME).write_bytes(content[:-100])
    assert CONNECTOR_NAME in refused(checkpoint=str(folder))


def test_the_parameter_file_names_exactly_the_parameters_with_their_defaults():
    written = yaml.safe_load(CONFIG.read_text())['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert list(written) == list(declared)
    assert written == declared
    assert all(type(written[key]) is type(declared[key]) for key in declared)
    lines = [x for x in CONFIG.read_text().splitlines() if x.startswith('    ')]
    values = [line for line in lines if not line.strip().startswith('#')]
    assert all('  # ' in line for line in values)


def test_a_street_is_described_on_the_live_graph_until_the_node_is_ended(checkpoint):
    """Processes of their own; what is written when the signal comes is ended."""
    with LiveGraph() as graph:
        sizes = {'width': 64, 'height': 32, 'samples': 0, 'rate_hz': 5.0}
        graph.start('street', 'vlm_nodes.simulation.street.node', sizes)
        parameters = {'checkpoint': str(checkpoint), 'rate': 5.0, 'max_new_tokens': 4}
        # A busy machine delivers late.
        parameters |= {'set_wait_s': 10.0, 'camera_alive_s': PATIENCE_S}
        parameters |= {'image_timeout_s': PATIENCE_S, 'longest_s': 10 * PATIENCE_S}
        node = graph.start('captions', 'vlm_nodes.clip_vlm.node', parameters)
        pages, states = [], []
        graph.node.create_subscription(
            String, '/caption_node/caption_stamped', lambda m: pages.append(json.loads(m.data)), 10
        )
        graph.node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: states.append(m.status[0]), 1000
        )
        graph.wait(
            lambda: pages and pages[-1]['cameras'] == list(CAMERAS),
            2 * PATIENCE_S,  # with the start of both
            'a caption of all cameras',
        )
        assert pages[-1]['prompt'] == PROMPT
        assert pages[-1]['text']
        assert 0 <= pages[-1]['age_s'] < PATIENCE_S
        graph.wait(
            lambda: float(_values(states).get('last time to first token s') or 0) > 0,
            PATIENCE_S,
            'the time to the first token',
        )
        assert float(_values(states)['last latency s']) > 0
        client = graph.node.create_client(Describe, '/caption_node/describe')
        assert client.wait_for_service(PATIENCE_S)
        answer = client.call_async(Describe.Request(max_new_tokens=ENDLESS))
        count = len(states)
        # Two states in which a text is under way, and none has come between them.
        graph.wait(
            lambda: len(states) > count + 2 and _is_one_text(*states[-2:]),
            PATIENCE_S,
            'a long text',
        )
        assert not answer.done()
        assert graph.stop(node) == 0
        assert 'Traceback' not in (graph.log_folder / 'captions.log').read_text()


def _values(states):
    return messages.diagnostics_values(states[-1])[1] if states else {}


def _is_one_text(*states):
    before, now = (messages.diagnostics_values(state)[1] for state in states)
    return before['busy'] == now['busy'] == 'True' and before['captions'] == now['captions']
