import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from color_oracle import ColorOracle
from ray_cast_rooms import BOXES, record_room

from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.create_map import build_map
from vlm_nodes.mapping.index_map import main

TRUE_CENTERS = {
    name: (low + high) / 2
    for name, (low, high) in zip(
        ('red box', 'green box', 'blue box', 'yellow box'), BOXES, strict=True
    )
}


@pytest.fixture(scope='module')
def map_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('maps') / 'room.npz'
    config = VoxelMapConfig(voxel_size_m=0.05, feature_dim=0, threads=1)
    build_map(record_room(24), ColorOracle(), config).save(path)
    return path


def test_things_are_found_where_they_are(
    map_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ['red box', 'green box', 'blue box']
    command = [str(map_file), *texts, '--json', '--pictures', str(tmp_path)]
    assert main(command, ColorOracle()) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report['matches']) == texts
    for text, matches in report['matches'].items():
        assert matches[0]['label'] == text
        # Only the sides that the camera saw are in the map.
        np.testing.assert_allclose(matches[0]['centroid_m'][:2], TRUE_CENTERS[text][:2], atol=0.35)
        assert matches == sorted(matches, key=lambda m: -m['score'])


def test_pictures_are_written_for_each_text(map_file: Path, tmp_path: Path) -> None:
    texts = ['red box', 'Red box!', 'blue box']
    main([str(map_file), *texts, '--pictures', str(tmp_path)], ColorOracle())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        'room_heat_blue_box.png',
        'room_heat_red_box.png',
        'room_heat_red_box_2.png',
        'room_matches.png',
    ]
    heat = cv2.imread(str(tmp_path / 'room_heat_blue_box.png'))
    other = cv2.imread(str(tmp_path / 'room_heat_red_box.png'))
    assert heat.shape == other.shape
    assert (heat != other).any()


def test_table_names_what_has_no_match(map_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(map_file), 'red box', 'elephant', '--no-pictures', '--min-score', '0.6']
    assert main(command, ColorOracle()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert 'in frame map; positions and sizes in metres' in lines[0]
    assert lines[2].startswith('red box')
    assert lines[-1].split() == ['elephant', 'no', 'match']
    assert not list(map_file.parent.glob('*.png'))


def test_limits_are_kept(map_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(map_file), 'wall', '--no-pictures', '--json', '--max-matches', '1']
    main(command, ColorOracle())
    assert len(json.loads(capsys.readouterr().out)['matches']['wall']) == 1


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['nowhere.npz', 'red box'], 'nowhere.npz'),
        (['{map}', ' '], 'empty'),
        (['{map}', 'red box', '--min-score', '2'], 'min_score = 2'),
        (['{map}', 'red box', '--negatives', 'red box'], 'leave nothing'),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    map_file: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [argument.format(map=map_file) for argument in arguments]
    assert main([*command, '--no-pictures'], ColorOracle()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1


def test_another_encoder_is_refused(map_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Other(ColorOracle):
        identity = 'other/1'

    assert main([str(map_file), 'red box'], Other()) == 2
    assert 'color-oracle/1' in capsys.readouterr().err


def test_a_map_without_features_says_how_to_make_one_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'plain.npz'
    build_map(record_room(3), None).save(path)
    assert main([str(path), 'red box']) == 2
    assert 'geometry and colour only' in capsys.readouterr().err
