import json

import cv2
import numpy as np
import pytest

from vlm_nodes.cliport.episode import Episode, Step
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.pictures import PICK_COLOR, PLACE_COLOR
from vlm_nodes.cliport.poses import tool_pose
from vlm_nodes.cliport.show import main, sheet_of, step_picture
from vlm_nodes.cliport.workspace import Workspace

WORKSPACE = Workspace((0.0, 0.64), (0.0, 1.28), pixel_m=0.01)


def seen(gray: int) -> Heightmap:
    color = np.full((128, 64, 3), gray, np.uint8)
    return Heightmap(color, np.zeros((128, 64), np.float32), np.ones((128, 64), bool), WORKSPACE)


def episode(seed: int, steps: int = 2) -> Episode:
    pick, place = tool_pose((0.2, 0.3, 0), 0), tool_pose((0.5, 0.9, 0), np.pi / 6)
    told = ['put the red block in a bowl', 'put the green block in a bowl']
    done = tuple(Step(seen(40 + k), told[k], pick, place, 1 / steps) for k in range(steps))
    return Episode('put-block-in-bowl', 'train', seed, done, seen(90))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / 'data'
    folder.mkdir()
    for seed, steps in ((0, 2), (2, 1), (4, 2)):
        episode(seed, steps).save(folder / f'{seed:06d}.zip')
    return folder


def has(image, color, around) -> bool:
    u, v = around
    part = image[v - 14 : v + 15, u - 14 : u + 15]
    return bool((part == color).all(axis=-1).any())


def test_pick_and_place_are_drawn_where_they_are() -> None:
    image = step_picture(episode(0), 0)
    # Two pixels of the picture for one of the heightmap, y to the right, x down, under a title.
    assert image.shape == (2 * 64 + 26, 2 * 128, 3)
    assert has(image, PICK_COLOR, (60, 40 + 26))
    assert has(image, PLACE_COLOR, (180, 100 + 26))
    assert not has(image, PLACE_COLOR, (60, 40 + 26))
    assert step_picture(episode(0), 0, heights=True).shape[0] == 2 * 128 + 26


def test_a_sheet_of_many(data, tmp_path, capsys) -> None:
    out = tmp_path / 'look'
    assert main([str(data), '--out', str(out), '--count', '2', '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['episodes'] == 3
    assert figures['steps'] == 5
    assert figures['instructions']['put the red block in a bowl'] == 3
    assert figures['least_reward'] == 1
    sheet = cv2.imread(str(out / 'sheet.png'))
    assert sheet.shape == (64 * 2 + 26 + 4, 2 * (256 + 4), 3)
    assert main([str(data), '--out', str(out)]) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert main([str(data), '--out', str(out), '--overwrite']) == 0
    assert 'put the green block' in capsys.readouterr().out


def test_all_steps_of_one(data, tmp_path, capsys) -> None:
    out = tmp_path / 'look'
    assert main([str(data), '--out', str(out), '--index', '-1', '--heights', '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['seed'] == 4
    assert figures['steps'][1] == {
        'instruction': 'put the green block in a bowl',
        'pick_px': [30, 20],
        'place_px': [90, 50],
        'turn_deg': 30.0,
        'reward': 0.5,
    }
    names = sorted(path.name for path in out.iterdir())
    assert names == ['000004-0.png', '000004-1.png', '000004-2.png']
    shapes = {cv2.imread(str(path)).shape for path in out.iterdir()}
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--index', '3'], 'has 3 episodes'),
        (['--count', '0'], '--count'),
        (['--columns', '0'], '--columns'),
    ],
)
def test_what_cannot_be_shown_is_said(data, tmp_path, capsys, words, message) -> None:
    assert main([str(data), '--out', str(tmp_path / 'look'), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_says_how_to_fill_it(tmp_path, capsys) -> None:
    assert main([str(tmp_path), '--out', str(tmp_path / 'look')]) == 2
    assert 'cliport_demos' in capsys.readouterr().err


def test_a_damaged_episode_is_named(data, tmp_path, capsys) -> None:
    path = data / '000002.zip'
    path.write_bytes(path.read_bytes()[:-200])
    assert main([str(data), '--out', str(tmp_path / 'look')]) == 2
    assert '000002.zip' in capsys.readouterr().err


def test_a_sheet_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match='picture'):
        sheet_of([], 3)
