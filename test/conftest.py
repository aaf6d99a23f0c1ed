import os
from pathlib import Path

# Keep a test's ROS traffic on this machine and its torch on one thread: two busy threads on two
# busy cores are many times slower than one.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault(
    'FASTRTPS_DEFAULT_PROFILES_FILE',
    str(Path(__file__).resolve().parents[1] / 'config' / 'fastdds.xml'),
)
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('NUMBA_NUM_THREADS', '2')

import itertools

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile('untimed', deadline=None)
hypothesis.settings.load_profile('untimed')

REPOSITORY = Path(__file__).resolve().parents[1]

# Domains that tests took: the next test begins behind them, since what a killed process leaves
# behind in one should not reach into the next.
_taken = itertools.count()


@pytest.fixture(scope='session')
def vlm_data() -> Path:
    """The folder of real recordings; the test skips, saying so, where it is absent."""
    folder = Path(os.environ.get('VLM_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no recordings at {folder}: set VLM_DATA to their folder')
    return folder


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain that nobody on this machine is in, set for this process and those it starts."""
    from vlm_nodes.graph.domain import free_domain

    domain = free_domain(after=next(_taken))
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    return domain
