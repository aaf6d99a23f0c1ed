import json

import cv2
import numpy as np
import pytest
from bag_writing import FORMATS, START_NS, Recorder

from bag_tools.bag2captions import main
from bag_tools.caption_table import read_caption_rows
from bag_tools.table_rows import TableError
from vlm_nodes.clip_vlm.overlap import open_overlap
from vlm_nodes.clip_vlm.samples import read_views

MS = 1_000_000
TOPICS = {'CAM_FRONT': '/front/image_raw', 'CAM_BACK': '/back/image_raw/compressed'}


def picture(number, camera):
    """A picture that says which it is by its red and green."""
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[...] = (20 * number, 200 if camera == 'CAM_BACK' else 0, 0)
    return rgb


def record(path, kind='mcap', *, unstamped=False, cut=None):
    """Ten pictures a camera at 10 Hz, raw of one and compressed of the other, 20 ms later."""
    with Recorder(path, kind) as bag:
        for number in range(10):
            stamp = START_NS + number * 100 * MS
            front = bag.image(0 if unstamped else stamp, 'f', picture(number, 'CAM_FRONT'), 'rgb8')
            bag.write(TOPICS['CAM_FRONT'], front, stamp)
            bgr = np.ascontiguousarray(picture(number, 'CAM_BACK')[..., ::-1])
            jpeg = cv2.imencode('.jpg', bgr)[1].tobytes()
            jpeg = jpeg[:-30] if number == cut else jpeg
            late = stamp + 20 * MS
            back = bag.compressed(0 if unstamped else late, 'b', jpeg, 'rgb8; jpeg compressed bgr8')
            bag.write(TOPICS['CAM_BACK'], back, late)
        return bag.path


def write_table(path, *lines):
    path.write_text('\n'.join(lines) + '\n')
    return path


def convert(bag, table, out, *more):
    cameras = [word for name, topic in TOPICS.items() for word in ('--camera', f'{name}={topic}')]
    return main([str(a) for a in (bag, table, '--out', out, *cameras, *more)])


@pytest.fixture
def table(tmp_path):
    return write_table(
        tmp_path / 'captions.csv',
        'time_s, caption, token',
        '0.52, "Five, said late.", five',
        '0.2, Two.,',
    )


@pytest.mark.parametrize('kind', FORMATS)
def test_moments_of_a_table_become_a_folder_to_train_from(tmp_path, table, kind, capsys):
    bag = record(tmp_path / 'drive', kind)
    out = tmp_path / 'out'
    assert convert(bag, table, out) == 0
    assert capsys.readouterr().out == f'2 samples read, 2 kept\nwritten: {out}\n'
    found = open_overlap(out)
    assert found.cameras == ('CAM_FRONT', 'CAM_BACK')
    assert [(sample.token, sample.caption) for sample in found] == [
        ('drive-000003', 'Two.'),
        ('five', 'Five, said late.'),
    ]
    for sample, number in zip(found, (2, 5), strict=True):
        for camera, rgb in read_views(sample).items():
            assert abs(rgb.astype(int) - picture(number, camera)).max() < 8
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['source'] == {'pictures': bag.name, 'captions': 'captions.csv'}


def test_a_recorded_jpeg_is_taken_as_it_is(tmp_path, table):
    assert convert(record(tmp_path / 'drive'), table, tmp_path / 'out') == 0
    bgr = np.ascontiguousarray(picture(5, 'CAM_BACK')[..., ::-1])
    written = (tmp_path / 'out/images/five/CAM_BACK.jpg').read_bytes()
    assert written == cv2.imencode('.jpg', bgr)[1].tobytes()


def test_rows_that_cannot_be_shown_are_counted(tmp_path, capsys):
    table = write_table(
        tmp_path / 'captions.csv',
        'caption,stamp',
        f'Long before.,{(START_NS - 10**9) / 1e9:.3f}',
        f'Third.,{START_NS // 10**9}.3',
        f'Too late for the back.,{START_NS // 10**9}.4',
        f',{START_NS // 10**9}.5',
        f'Sixth.,{START_NS // 10**9}.6',
    )
    bag = record(tmp_path / 'drive', cut=4)
    assert convert(bag, table, tmp_path / 'out', '--max-samples', 3, '--slop-s', 0.03) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == [
        '5 samples read, 2 kept',
        'skipped, a camera has no picture near the stamp: 1',
        'skipped, beyond --max-samples: 1',
        'skipped, a picture of /back/image_raw/compressed is broken: 1',
        'kept without a caption: 1',
    ]
    assert [sample.caption for sample in open_overlap(tmp_path / 'out', captions_needed=False)] == [
        'Third.',
        None,
    ]


def test_pictures_that_nobody_stamped_are_taken_by_their_receive_time(tmp_path, table, capsys):
    bag = record(tmp_path / 'drive', unstamped=True)
    assert convert(bag, table, tmp_path / 'out') == 0
    assert 'pictures without a stamp, at their receive time: 20' in capsys.readouterr().out
    rgb = read_views(open_overlap(tmp_path / 'out')[1])['CAM_FRONT']
    assert rgb[0, 0, 0] == pytest.approx(100, abs=4)


def test_what_cannot_be_done_is_said_in_a_line(tmp_path, table, capsys):
    bag, out = record(tmp_path / 'drive'), tmp_path / 'out'
    wrong = {
        ('--camera', 'CAM_TOP=/top'): 'topic /top of camera CAM_TOP is not there; its pictures',
        ('--camera', 'CAM_TOP'): "--camera 'CAM_TOP' is not CAM=TOPIC",
        ('--camera', 'CAM_FRONT=/top'): '--camera CAM_FRONT is named twice',
        ('--camera', 'A=/front/image_raw'): 'is that of another camera',
        ('--slop-s', '-1'): '--slop-s = -1.0',
        ('--max-samples', '0'): '--max-samples must be at least 1, is 0',
    }
    for more, says in wrong.items():
        assert convert(bag, table, out, *more) == 2
        assert says in capsys.readouterr().err
        assert not out.exists()
    late = write_table(tmp_path / 'late.csv', 'time_s,caption', '100,Nothing.')
    assert convert(bag, late, out) == 2
    assert 'no sample is left: 1 samples read, 0 kept' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ('lines', 'says'),
    [
        (['time_s'], "no column 'caption'"),
        (['time_s,caption,colour'], r"unknown columns \['colour'\]; known are stamp"),
        (['time_s,caption'], 'holds no caption'),
        (['time_s,caption', ',Text.'], 'line 2: no stamp or time_s'),
        (['time_s,caption', 'soon,Text.'], "line 2: time_s = 'soon' is no number"),
        (['time_s,caption,token', '1,A.,../a'], "line 2: token '../a' is to be the name"),
        (['time_s,caption,token', '1,A.,a', '2,B.,a'], "line 3: token 'a' is that of line 2"),
    ],
)
def test_a_table_that_makes_no_sense_is_named(tmp_path, lines, says):
    with pytest.raises(TableError, match=says):
        read_caption_rows(write_table(tmp_path / 'captions.csv', *lines), 'bag')


def test_what_can_be_had_of_a_damaged_bag_is_taken_where_that_is_asked_for(tmp_path, capsys):
    bag = record(tmp_path / 'drive')
    (file,) = bag.glob('*.mcap')
    content = file.read_bytes()
    # The recorder was killed: the index at the end is missing.
    file.write_bytes(content[: int(len(content) * 0.6)])
    table = write_table(tmp_path / 'captions.csv', 'time_s,caption', '0.1,First.', '0.9,Last.')
    assert convert(file, table, tmp_path / 'out') == 2
    assert 'drive' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert convert(file, table, tmp_path / 'out', '--recover', '--slop-s', 0.02) == 0
    said = capsys.readouterr().out
    assert '2 samples read, 1 kept' in said
    assert 'problem: ' in said
    assert [sample.caption for sample in open_overlap(tmp_path / 'out')] == ['First.']
