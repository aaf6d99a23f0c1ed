import pytest
import torch
from small_clip_vlm import CAPTIONS, KINDS, PROMPT

from vlm_nodes.clip_vlm.tiny_qwen import write_tiny_qwen


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def qwens(tmp_path_factory):
    """Folders of a tiny Qwen of each kind."""
    folder = tmp_path_factory.mktemp('qwens')
    for kind in KINDS:
        write_tiny_qwen(folder / kind, [*CAPTIONS, PROMPT], kind, hidden_size=32, layers=2)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(params=KINDS)
def qwen_folder(qwens, request):
    """The folder of a tiny Qwen, one kind after the other."""
    return qwens[request.param]
