"""Episode files: what is written is read, and what is not whole is refused."""

import io
import json
import zipfile

import numpy as np
import pytest

from vlm_nodes.cliport.episode import Calibration, Episode, EpisodeError, Step, episode_files
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import matrix_from_quaternion

WORKSPACE = Workspace((0.0, 0.2), (-0.1, 0.1), (-0.02, 0.28), 0.0125)


def heightmap(seed, workspace=WORKSPACE):
    rng = np.random.default_rng(seed)
    seen = rng.random(workspace.shape) > 0.2
    height = rng.uniform(-0.0199, 0.2799, workspace.shape)
    color = rng.integers(0, 256, (*workspace.shape, 3), dtype=np.uint8)
    return Heightmap(
        np.where(seen[..., None], color, 0).astype(np.uint8),
        np.where(seen, height, 0).astype(np.float32),
        seen,
        workspace,
    )


def pose(seed):
    rng = np.random.default_rng(seed)
    return matrix_from_quaternion(rng.normal(size=4), rng.normal(size=3))


def make_episode(count=2, seed=4):
    steps = tuple(
        Step(heightmap(i), f'put it there, nº {i}', pose(i), pose(i + 50), 0.5)
        for i in range(count)
    )
    camera = Camera(64, 48, 50.0, 51.0, 32.5, 24.5, 'plumb_bob', (0.1, -0.2, 0.0, 0.0, 0.01))
    return Episode(
        'put-block-in-bowl-seen-colors',
        'train',
        seed,
        steps,
        heightmap(99),
        (Calibration('front', camera, pose(7)),),
        {'made_by': 'a test'},
    )


def test_what_is_written_is_read(tmp_path):
    episode = make_episode()
    episode.save(tmp_path / 'a.zip')
    read = Episode.load(tmp_path / 'a.zip')
    assert (read.task, read.mode, read.seed) == (episode.task, episode.mode, 4)
    assert read.workspace == WORKSPACE
    assert read.provenance == {'made_by': 'a test'}
    assert read.total_reward == 1.0
    assert read.cameras[0].camera == episode.cameras[0].camera
    np.testing.assert_allclose(
        read.cameras[0].table_from_camera, episode.cameras[0].table_from_camera, atol=1e-12
    )
    for a, b in zip(read.steps, episode.steps, strict=True):
        assert (a.instruction, a.reward) == (b.instruction, b.reward)
        np.testing.assert_allclose(a.pick, b.pick, atol=1e-12)
        np.testing.assert_allclose(a.place, b.place, atol=1e-12)
    seen = [*(step.heightmap for step in read.steps), read.final]
    was = [*(step.heightmap for step in episode.steps), episode.final]
    for a, b in zip(seen, was, strict=True):
        np.testing.assert_array_equal(a.color, b.color)
        np.testing.assert_array_equal(a.seen, b.seen)
        np.testing.assert_allclose(a.height_m, b.height_m, atol=0.51e-4)


def test_the_same_episode_gives_the_same_bytes(tmp_path):
    assert make_episode().to_bytes() == make_episode().to_bytes()
    again = Episode.from_bytes(make_episode().to_bytes())
    assert len(again.to_bytes()) == pytest.approx(len(make_episode().to_bytes()), rel=0.01)


def test_a_real_table_has_no_seed():
    assert Episode.from_bytes(make_episode(seed=None).to_bytes()).seed is None


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, share):
    content = make_episode().to_bytes()
    path = tmp_path / 'cut.zip'
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EpisodeError, match=r'cut\.zip is cut short or damaged .*record it again'):
        Episode.load(path)


def test_a_flipped_bit_is_found_or_changes_nothing():
    """Some bits of a zip say nothing of its content, such as when it was written."""
    whole = make_episode().to_bytes()
    page = Episode.from_bytes(whole).to_bytes()
    refused, places = 0, range(0, len(whole), max(1, len(whole) // 300))
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        try:
            assert Episode.from_bytes(bytes(content)).to_bytes() == page
        except EpisodeError as error:
            refused += 'damaged' in str(error) or 'not an episode' in str(error)
    assert refused > len(places) / 2


def changed(change):
    """The bytes of an episode whose page was changed, or an entry left out."""
    stream, content = io.BytesIO(), make_episode().to_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, 'w') as new:
        for name in old.namelist():
            data = old.read(name)
            if name == 'episode.json':
                page = json.loads(data)
                change(page)
                data = json.dumps(page).encode()
            new.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda page: page.update(format='something'), "not say that its format is 'cliport"),
        (lambda page: page.update(version=9), 'its version is 9, this program reads 1'),
        (lambda page: page.pop('steps'), 'steps'),
        (lambda page: page['steps'].append(page['steps'][0]), r'color/003\.png'),
        (lambda page: page['steps'][0].update(instruction=' '), 'needs an instruction'),
        (lambda page: page['workspace'].update(pixel_m=0.025), 'the workspace says'),
        (lambda page: page['steps'][0]['pick'].update(quaternion_xyzw=[0] * 4), 'not a pose'),
    ],
)
def test_what_is_no_episode_says_why(change, reason):
    with pytest.raises(EpisodeError, match=f'x is not an episode: .*{reason}'):
        Episode.from_bytes(changed(change), 'x')


def test_an_episode_checks_itself():
    whole = make_episode()
    with pytest.raises(ValueError, match='without steps'):
        Episode('task', 'train', 0, (), whole.final)
    other = Workspace((0.0, 0.2), (-0.1, 0.1), (-0.02, 0.3), 0.0125)
    with pytest.raises(ValueError, match='step 0 is of'):
        Episode('task', 'train', 0, whole.steps, heightmap(1, other))
    with pytest.raises(ValueError, match='pick is not a rigid'):
        Step(heightmap(0), 'go', np.zeros((4, 4)), np.eye(4), 0.0)


def test_episodes_of_a_folder_come_in_order(tmp_path):
    with pytest.raises(FileNotFoundError, match='no episodes'):
        episode_files(tmp_path)
    for name in ('000010.zip', '000002.zip', '.000004.zip.part', 'notes.txt'):
        (tmp_path / name).touch()
    assert [path.name for path in episode_files(tmp_path)] == ['000002.zip', '000010.zip']
