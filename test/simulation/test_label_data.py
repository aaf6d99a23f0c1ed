import json

import cv2
import numpy as np
import pytest

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.label_data import label_images, main, write_label_images
from vlm_nodes.simulation.viewpoints import ViewRange

SMALL = ViewRange(size=64)


def read(folder, name):
    image = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def test_data_set_on_disk_is_what_was_rendered(tmp_path):
    out = tmp_path / 'set'
    shares = write_label_images(out, range(2), 3, SMALL)
    assert sum(shares.values()) == pytest.approx(1.0)
    expected = list(label_images(range(2), 3, SMALL))
    assert len(expected) == 6
    names = json.loads((out / 'labels.json').read_text())
    assert names == {str(number): label for label, number in vocabulary.LABEL_IDS.items()}
    for folder in ('images', 'labels'):
        assert sorted(path.stem for path in (out / folder).iterdir()) == [i.name for i in expected]
    for image in expected:
        np.testing.assert_array_equal(
            read(out / 'images', f'{image.name}.png')[..., ::-1], image.rgb
        )
        labels = read(out / 'labels', f'{image.name}.png')
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(labels, image.labels)


def test_pictures_show_objects_and_training_shows_no_unseen_pair():
    images = list(label_images(range(12), 4, SMALL))
    share = np.mean([image.labels > len(vocabulary.ROOM_LABELS) for image in images])
    assert share > 0.3
    shown = {vocabulary.LABELS[i - 1] for image in images for i in np.unique(image.labels) if i}
    unseen = {vocabulary.label_of(*pair) for pair in vocabulary.pairs(unseen=True)}
    assert shown.isdisjoint(unseen)
    assert len(shown) > 40


def test_an_existing_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / 'mine').write_text('precious')
    with pytest.raises(FileExistsError, match='not overwriting'):
        write_label_images(tmp_path, range(1), 1, SMALL)
    with pytest.raises(SystemExit):
        main([str(tmp_path), '--rooms', '1'])
    assert 'not overwriting' in capsys.readouterr().err
    assert (tmp_path / 'mine').read_text() == 'precious'


def test_a_run_that_fails_leaves_no_data_set(tmp_path):
    out = tmp_path / 'set'
    last = vocabulary.TEST_SEEDS.stop - 1
    with pytest.raises(ValueError, match='neither a training seed'):
        write_label_images(out, range(last, last + 2), 1, SMALL)
    assert not out.exists()


def test_command_line_writes_a_set(tmp_path):
    out = tmp_path / 'set'
    main([str(out), '--seed', '1000000', '--rooms', '1', '--views', '2', '--size', '32'])
    assert len(list((out / 'images').iterdir())) == 2
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'none'), '--views', '0'])
