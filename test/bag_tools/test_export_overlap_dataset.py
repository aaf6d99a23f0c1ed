import json

import cv2
import pytest
from caption_trees import BACK, FRONT, record, write_json, write_nuinteract
from table_writing import drive_tables, write_tables

from bag_tools.export_overlap_dataset import main
from vlm_nodes.clip_vlm.overlap import open_overlap
from vlm_nodes.clip_vlm.samples import read_views

# Of the keyframes of test/surround: sample0-0 to sample0-4 and sample1-0 to sample1-2.
TOKENS = ('sample0-1', 'sample0-3', 'sample1-2')


@pytest.fixture
def drives(tmp_path):
    return write_tables(tmp_path / 'nuscenes', drive_tables())


@pytest.fixture
def nuinteract(tmp_path):
    rows = [record(token, cam_path=None) for token in (*TOKENS, 'elsewhere')]
    return write_nuinteract(tmp_path / 'all_caption_public', rows, '[broken')


def export(drives, nuinteract, out, *more):
    arguments = ('--data-root', drives, '--nuinteract-dir', nuinteract, '--out', out)
    return main([str(a) for a in (*arguments, '--cameras', BACK, FRONT, *more)])


def test_the_intersection_is_a_folder_that_is_read_alone(drives, nuinteract, tmp_path, capsys):
    out = tmp_path / 'overlap'
    assert export(drives, nuinteract, out) == 0
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['cameras'] == [BACK, FRONT]
    assert manifest['samples'][0] == {
        'token': 'sample0-1',
        'images': {c: f'images/sample0-1/{c}.jpg' for c in (BACK, FRONT)},
        'caption': 'sample0-1 front. sample0-1 back.',
    }
    assert json.loads((out / 'captions.json').read_text()) == {
        token: f'{token} front. {token} back.' for token in TOKENS
    }
    assert manifest['counts'] == {'read': 8, 'kept': 3, 'no caption': 5}
    assert manifest['notes']['captions of samples that are not there'] == 1
    assert manifest['notes']['broken files, left out'] == 1
    said = capsys.readouterr().out
    assert '8 samples read, 3 kept\nskipped, no caption: 5\n' in said
    assert said.endswith(f'written: {out}\n')
    for path in (drives, nuinteract):
        path.rename(path.with_name(f'no {path.name}'))
    found = open_overlap(out)
    assert [sample.token for sample in found] == list(TOKENS)
    # The tables' pictures are PNG; JPEG keeps their colour but for a little.
    pixel = read_views(found[2])[FRONT][9, 16]
    assert abs(pixel.astype(int) - (200, 0, 0)).max() < 8


def test_a_jpeg_is_taken_as_it_is(drives, nuinteract, tmp_path):
    path = drives / 'samples/CAM_FRONT/sample0-1.png'
    jpeg = cv2.imencode('.jpg', cv2.imread(str(path)))[1].tobytes()
    path.write_bytes(jpeg)
    assert export(drives, nuinteract, tmp_path / 'out') == 0
    assert (tmp_path / 'out/images/sample0-1/CAM_FRONT.jpg').read_bytes() == jpeg


def test_broken_and_missing_pictures_are_named_or_counted(drives, nuinteract, tmp_path, capsys):
    front = drives / 'samples/CAM_FRONT'
    jpeg = cv2.imencode('.jpg', cv2.imread(str(front / 'sample0-1.png')))[1].tobytes()
    (front / 'sample0-1.png').write_bytes(jpeg[:-40])
    (front / 'sample0-3.png').unlink()
    out = tmp_path / 'out'
    assert export(drives, nuinteract, out) == 2
    assert 'sample0-1.png is cut short: copy it again; --require-files' in capsys.readouterr().err
    assert not out.exists()
    assert export(drives, nuinteract, out, '--require-files') == 0
    counts = json.loads((out / 'manifest.json').read_text())['counts']
    assert counts == {
        'read': 8,
        'kept': 1,
        'no caption': 5,
        'a picture file is missing': 1,
        'a picture is broken': 1,
    }


def test_the_first_so_many_are_written(drives, nuinteract, tmp_path, capsys):
    assert export(drives, nuinteract, tmp_path / 'out', '--max-samples', 2) == 0
    assert 'skipped, beyond --max-samples: 1\n' in capsys.readouterr().out
    assert len(open_overlap(tmp_path / 'out')) == 2
    assert export(drives, nuinteract, tmp_path / 'none', '--max-samples', 0) == 2


def test_a_folder_is_replaced_only_where_that_is_asked_for(drives, nuinteract, tmp_path, capsys):
    out = tmp_path / 'out'
    assert export(drives, nuinteract, out, '--max-samples', 2) == 0
    assert export(drives, nuinteract, out) == 2
    assert 'exists already: give another name, or --overwrite' in capsys.readouterr().err
    assert len(open_overlap(out)) == 2
    assert export(drives, nuinteract, out, '--overwrite') == 0
    assert len(open_overlap(out)) == 3
    (out / 'thesis.tex').write_text('years of work')
    assert export(drives, nuinteract, out, '--overwrite') == 2
    assert 'holds thesis.tex' in capsys.readouterr().err


@pytest.mark.parametrize('token', ['../sample', 'a/b', '.hidden', '..'])
def test_a_token_that_would_leave_the_folder_is_refused(tmp_path, capsys, token):
    tables = drive_tables()
    for row in tables['sample_data']:
        row['sample_token'] = row['sample_token'].replace('sample0-0', token)
    for row in tables['sample']:
        row['token'] = row['token'].replace('sample0-0', token)
    drives = write_tables(tmp_path / 'nuscenes', tables, files=False)
    for row in tables['sample_data']:
        row['filename'] = row['filename'].replace(token, 'sample0-0')
    write_tables(tmp_path / 'nuscenes', tables)
    captions = write_json(tmp_path / 'captions.json', {token: 'Text.'})
    arguments = ('--data-root', drives, '--captions', captions, '--out', tmp_path / 'out')
    assert main([str(a) for a in (*arguments, '--cameras', FRONT)]) == 2
    assert f'token {token!r} is to be the name of a file or folder' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_file_of_captions_will_do(drives, tmp_path):
    captions = write_json(tmp_path / 'captions.json', {'sample1-0': 'Grüße.'})
    arguments = ('--data-root', drives, '--captions', captions, '--out', tmp_path / 'out')
    assert main([str(a) for a in (*arguments, '--cameras', FRONT)]) == 0
    assert open_overlap(tmp_path / 'out')[0].caption == 'Grüße.'


def test_where_captions_are_from_has_to_be_said(drives, nuinteract, tmp_path, capsys):
    out = ('--out', str(tmp_path / 'out'))
    assert main(['--data-root', str(drives), *out]) == 2
    assert 'say where captions are from' in capsys.readouterr().err
    assert export(drives, nuinteract, tmp_path / 'out', '--captions', 'captions.json') == 2
    captions = write_json(tmp_path / 'captions.json', {'other': 'Text.'})
    arguments = ('--data-root', drives, '--captions', captions, '--out', tmp_path / 'out')
    assert main([str(a) for a in (*arguments, '--cameras', FRONT)]) == 2
    assert 'no sample is left: 8 samples read, 0 kept' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
