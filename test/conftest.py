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

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Domains 0 to 101 leave DDS's ports below Linux's ephemeral range. Each run starts elsewhere, so
# that two runs on one machine seldom meet.
_domains = itertools.count(os.getpid() * 7)


@pytest.fixture(scope='session')
def vlm_data() -> Path:
    """The folder of real recordings; the test skips, saying so, where it is absent."""
    folder = Path(os.environ.get('VLM_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no recordings at {folder}: set VLM_DATA to their folder')
    return folder


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS domain of the test's own, set for this process and those it starts."""
    domain = 1 + next(_domains) % 100
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    return domain
