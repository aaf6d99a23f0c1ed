import argparse
from pathlib import Path

import pytest
from caption_trees import (
    BACK,
    FRONT,
    picture_name,
    record,
    write_json,
    write_nuinteract,
    write_overlap,
    write_picture,
)
from table_writing import drive_tables, write_tables

from vlm_nodes.clip_vlm.data import add_data_arguments, open_samples
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.samples import CaptionedViews, SampleSet, read_views
from vlm_nodes.surround import SurroundError


def opened(*arguments, captions_needed=True):
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    options = parser.parse_args([str(argument) for argument in arguments])
    return open_samples(options, captions_needed=captions_needed)


def adds_up(found):
    others = {what: n for what, n in found.counts.items() if what not in ('read', 'kept')}
    return (
        found.counts['kept'] == len(found)
        and found.counts['read'] == len(found) + sum(others.values())
        and all(f': {n}' in str(found) for n in others.values())
    )


# nuScenes and a file of captions --------------------------------------------------------------


@pytest.fixture
def drives(tmp_path):
    """Eight keyframes; one without its front picture on disk, one without camera rows."""
    tables = drive_tables()
    tables['sample_data'] = [
        row
        for row in tables['sample_data']
        if row['sample_token'] != 'sample1-2' or 'CAM' not in row['filename']
    ]
    root = write_tables(tmp_path / 'nuscenes', tables)
    (root / 'samples/CAM_FRONT/sample0-1.png').unlink()
    return root


@pytest.fixture
def captions(tmp_path):
    texts = {f'sample0-{i}': f'Sample {i}.' for i in range(4)}
    wrong = {'sample0-4': '  ', 'sample1-0': None, 'nobody': 'Not a sample.'}
    return write_json(tmp_path / 'captions.json', texts | wrong)


def nuscenes(drives, *more, **options):
    cameras = ('--cameras', BACK, FRONT)
    return opened('--dataset', 'nuscenes', '--data-root', drives, *cameras, *more, **options)


def test_keyframes_with_captions_are_kept_in_time_order(drives, captions):
    found = nuscenes(drives, '--captions', captions)
    assert [sample.caption for sample in found] == [f'Sample {i}.' for i in range(4)]
    assert found.counts == {
        'read': 8,
        'kept': 4,
        'no caption': 3,
        'no picture of the cameras asked for': 1,
    }
    assert found.notes == {
        'captions of samples that are not there': 1,
        'caption without a text': 2,
    }
    assert list(found[0].images) == [BACK, FRONT]
    assert found[0].images[FRONT] == drives / 'samples/CAM_FRONT/sample0-0.png'
    assert adds_up(found)


def test_distilling_keeps_keyframes_without_captions(drives, captions):
    found = nuscenes(drives, captions_needed=False)
    assert len(found) == 7
    assert {sample.caption for sample in found} == {None}
    some = nuscenes(drives, '--captions', captions, captions_needed=False)
    assert [sample.caption is None for sample in some] == [False] * 4 + [True] * 3


def test_a_missing_blob_is_counted_or_named(drives, captions):
    found = nuscenes(drives, '--captions', captions, '--require-files')
    assert found.counts['a picture file is missing'] == 1
    assert adds_up(found)
    lax = nuscenes(drives, '--captions', captions)
    with pytest.raises(ClipVlmError, match=r'sample0-1.png .*is missing.*--require-files'):
        read_views(lax[1])


def test_at_most_so_many_samples_are_kept_of_each_data_set(drives, captions, tmp_path):
    found = nuscenes(drives, '--captions', captions, '--max-samples', 2)
    assert found.counts['beyond --max-samples'] == 2
    write_nuinteract(tmp_path / 'n', [record(f't{i}') for i in range(3)])
    overlap = write_overlap(tmp_path / 'o', [('a', 'A.'), ('b', 'B.'), ('c', 'C.')])
    sets = [
        found,
        opened(
            '--dataset', 'nuinteract', '--data-root', tmp_path, '--nuinteract-dir', tmp_path / 'n',
            '--max-samples', 2,
        ),
        opened('--dataset', 'overlap_export', '--data-root', overlap, '--max-samples', 2),
    ]  # fmt: skip
    for samples in sets:
        assert len(samples) == 2
        assert adds_up(samples)


def test_captions_by_view_are_joined_in_the_order_of_the_cameras(drives, tmp_path):
    views = {'CAM_FRONT': 'a red car', 'CAM_BACK': 'an empty street'}
    path = write_json(tmp_path / 'views.json', {'sample0-0': views})
    found = nuscenes(drives, '--captions', path, '--caption-strategy', 'per_view_concat')
    assert found[0].caption == 'an empty street. a red car.'


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'{"sample0-0": "cut', 'broken JSON: line 1, column 15'),
        (b'["sample0-0"]', 'no JSON object of sample tokens'),
        (b'{"a": "\xff\xff"}', 'is no JSON text'),
    ],
)
def test_broken_captions_are_named(drives, tmp_path, content, says):
    path = tmp_path / 'captions.json'
    path.write_bytes(content)
    with pytest.raises(ClipVlmError, match=rf'captions\.json.*{says}'):
        nuscenes(drives, '--captions', path)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_captions_that_an_editor_on_windows_saved_are_read(drives, tmp_path, encoding):
    path = tmp_path / 'captions.json'
    path.write_text('{"sample0-0": "Ein Auto für zwei."}', encoding=encoding)
    assert nuscenes(drives, '--captions', path)[0].caption == 'Ein Auto für zwei.'


def test_what_is_missing_on_the_command_line_is_said(drives, tmp_path):
    with pytest.raises(ClipVlmError, match='nuscenes needs --captions'):
        nuscenes(drives)
    with pytest.raises(ClipVlmError, match='nuinteract needs --nuinteract-dir'):
        opened('--dataset', 'nuinteract', '--data-root', drives)
    with pytest.raises(ClipVlmError, match='overlap_export needs --data-root'):
        opened('--dataset', 'overlap_export')
    with pytest.raises(ClipVlmError, match='--max-samples must be at least 1, is 0'):
        nuscenes(drives, '--max-samples', 0)
    with pytest.raises(SurroundError, match='has no CAM_FRUNT; its cameras are CAM_BACK, CAM_FRO'):
        opened('--dataset', 'nuscenes', '--data-root', drives, '--cameras', 'CAM_FRUNT',
               captions_needed=False)  # fmt: skip


def test_no_sample_left_is_an_error_that_says_where_they_went(drives, tmp_path):
    path = write_json(tmp_path / 'captions.json', {'other': 'Text.'})
    with pytest.raises(ClipVlmError, match=r'8 samples read, 0 kept; skipped, .*no caption: 7'):
        nuscenes(drives, '--captions', path)


def test_rows_of_tables_with_windows_paths_are_found(tmp_path):
    tables = drive_tables()
    root = write_tables(tmp_path, tables)
    for row in tables['sample_data']:
        row['filename'] = 'D:\\data\\' + row['filename'].replace('/', '\\')
    write_tables(tmp_path, tables, files=False)
    found = nuscenes(root, '--require-files', captions_needed=False)
    assert len(found) == 8
    assert read_views(found[0])[FRONT][0, 0].tolist() == [200, 0, 0]


# NuInteract -----------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """nuScenes' folder with the pictures of samples a, b and c."""
    root = tmp_path / 'nuscenes'
    for token in 'abc':
        for camera in (FRONT, BACK):
            write_picture(root / picture_name(token, camera))
    return root


def nuinteract(pictures, tmp_path, files, *more, **options):
    folder = write_nuinteract(tmp_path / 'all_caption_public', *files)
    return opened(
        '--dataset', 'nuinteract', '--data-root', pictures, '--nuinteract-dir', folder, *more,
        **options,
    )  # fmt: skip


def test_overall_is_made_from_front_and_back_where_it_is_absent(pictures, tmp_path):
    whole = {'OVERALL': 'All.', 'FRONT': 'Ahead.', 'BACK': 'Behind.'}
    named = {'Cam_Front': 'Ahead.', 'BACK': 'Behind.'}
    files = [[record('a', caption=whole), record('b')], [record('c', caption=named)]]
    found = nuinteract(pictures, tmp_path, files)
    assert [sample.caption for sample in found] == [
        'All. Ahead. Behind.',
        'b front. b back.',
        'Ahead. Behind.',
    ]
    assert found.cameras == (FRONT, BACK)
    assert found.notes == {
        'OVERALL absent, caption made from FRONT and BACK': 2,
        'FRONT or BACK absent, taken from CAM_FRONT or CAM_BACK': 1,
        'captions from gemini_caption': 3,
    }
    assert read_views(found[0])[BACK].shape == (18, 32, 3)


def test_views_are_joined_in_the_order_of_the_cameras_or_overall_is_taken(pictures, tmp_path):
    files = [
        [
            record('a'),
            record('b', caption={'OVERALL': 'All.'}),
            record('c', caption={'BACK': 'Behind.'}),
        ]
    ]
    strategy = ('--caption-strategy', 'per_view_concat', '--cameras', BACK, FRONT)
    found = nuinteract(pictures, tmp_path, files, *strategy)
    assert [sample.caption for sample in found] == [
        'a back camera. a front camera.',
        'All.',
        'Behind.',
    ]
    assert found.notes['no text of a view, OVERALL taken'] == 1
    assert found.notes['views without a text of their own'] == 1


@pytest.mark.parametrize(
    ('source', 'texts'),
    [
        ('auto', {'a': 'By GPT.', 'b': 'b front. b back.'}),
        ('gpt', {'a': 'By GPT.'}),
        ('gemini', {'a': 'a front. a back.', 'b': 'b front. b back.'}),
    ],
)
def test_the_field_of_captions_is_chosen_and_counted(pictures, tmp_path, source, texts):
    files = [[record('a', gpt_caption='By GPT.'), record('b')]]
    found = nuinteract(pictures, tmp_path, files, '--caption-source', source)
    assert {sample.token: sample.caption for sample in found} == texts
    gpt = sum(text == 'By GPT.' for text in texts.values())
    assert found.notes.get('captions from gpt_caption', 0) == gpt
    assert found.notes.get('captions from gemini_caption', 0) == len(texts) - gpt
    assert adds_up(found)


def test_everything_wrong_with_records_is_counted(pictures, tmp_path, caplog):
    whole = r'D:\nuscenes\samples\CAM_FRONT\b__CAM_FRONT.jpg'
    files = [
        [
            record('a', cam_path=[picture_name('a', FRONT), picture_name('a', BACK)]),
            record('b', cam_path=whole),
            record('b', cam_path={BACK: f'../data/nuscenes/{picture_name("b", BACK)}'}),
            record('c', caption={'FRONT': ' ', 'CAM_BACK': 3}),
            record('d'),
            record('e', cam_path={FRONT: '/etc/passwd', 'CAM_ROOF': 'samples/CAM_ROOF/e.jpg'}),
            record('f', cam_path=None),
            {'gemini_caption': 'Whose?'},
            'no record',
        ],
        '[{"token": "cut',
        '{"token": "placeholder"}',
    ]
    found = nuinteract(pictures, tmp_path, files, '--require-files')
    assert {sample.token: sorted(sample.images) for sample in found} == {
        'a': [BACK, FRONT],
        'b': [BACK, FRONT],
    }
    assert found.counts == {
        'read': 9,
        'kept': 2,
        'record without a token': 2,
        'joined with an earlier record of its sample': 1,
        'no caption': 1,
        'a picture file is missing': 1,
        'no picture of the cameras asked for': 2,
    }
    assert adds_up(found)
    assert found.notes['broken files, left out'] == 2
    assert found.notes['pictures outside of --data-root, left out'] == 1
    assert found.notes['pictures of cameras not asked for, left out'] == 1
    assert '01.json is broken JSON: line 1' in caplog.text
    assert [sample.images for sample in found if sample.token == 'b'] == [
        {camera: pictures / picture_name('b', camera) for camera in (FRONT, BACK)}
    ]


def test_a_record_without_a_caption_is_kept_for_distilling(pictures, tmp_path):
    found = nuinteract(pictures, tmp_path, [[record('a', caption={})]], captions_needed=False)
    assert found[0].caption is None


def test_an_unknown_camera_or_a_folder_without_records_is_an_error(pictures, tmp_path):
    with pytest.raises(ClipVlmError, match='picture of CAM_FRUNT; their cameras are CAM_BACK, C'):
        nuinteract(pictures, tmp_path, [[record('a')]], '--cameras', 'CAM_FRUNT')
    with pytest.raises(ClipVlmError, match='no readable file: 1 are broken'):
        nuinteract(pictures, tmp_path / 'other', ['[{'])
    for folder, says in ((pictures, 'has no .json files'), (tmp_path / 'none', 'is not a folder')):
        with pytest.raises(ClipVlmError, match=f'{says}.*all_caption_public'):
            opened('--dataset', 'nuinteract', '--data-root', pictures, '--nuinteract-dir', folder)


def test_the_folder_above_the_captions_is_as_good(pictures, tmp_path):
    write_nuinteract(tmp_path / 'NuInteract/all_caption_public', [record('a')])
    found = opened(
        '--dataset', 'nuinteract', '--data-root', pictures,
        '--nuinteract-dir', tmp_path / 'NuInteract',
    )  # fmt: skip
    assert len(found) == 1


# A folder of its own --------------------------------------------------------------------------


def overlap(folder, *more, **options):
    return opened('--dataset', 'overlap_export', '--data-root', folder, *more, **options)


def test_an_export_is_read_in_the_order_of_its_manifest(tmp_path):
    folder = write_overlap(tmp_path, [('b', 'B.'), ('a', 'A.')], cameras=(BACK, FRONT))
    found = overlap(folder)
    assert [sample.token for sample in found] == ['b', 'a']
    assert found.cameras == (BACK, FRONT)
    assert list(found[0].images) == [BACK, FRONT]
    assert read_views(found[1])[FRONT].shape == (18, 32, 3)
    one = overlap(folder, '--cameras', FRONT)
    assert list(one[0].images) == [FRONT]


def test_an_export_with_gaps_is_counted(tmp_path):
    rows = [
        ('a', 'A.'),
        ('b', ' '),
        ('c', None),
        {'token': 'd', 'images': {FRONT: 'images\\a\\CAM_FRONT.jpg'}, 'caption': 'D.'},
        {'token': 'e', 'images': {FRONT: 'images/e/CAM_FRONT.jpg'}, 'caption': 'E.'},
        {'token': 'f', 'images': {'CAM_ROOF': 'images/a/CAM_FRONT.jpg'}, 'caption': 'F.'},
    ]
    found = overlap(write_overlap(tmp_path, rows), '--require-files')
    assert [sample.token for sample in found] == ['a', 'd']
    assert found.counts == {
        'read': 6,
        'kept': 2,
        'no caption': 2,
        'a picture file is missing': 1,
        'no picture of the cameras asked for': 1,
    }
    assert adds_up(found)
    assert len(overlap(tmp_path, captions_needed=False)) == 5


@pytest.mark.parametrize(
    'path',
    [
        '../secret.jpg',
        '/etc/passwd',
        'images\\..\\..\\secret.jpg',
        'C:\\secret.jpg',
        '',
        'link/x.jpg',
        'images/link.jpg',
    ],
)
def test_a_path_that_leaves_an_export_is_refused(tmp_path, path):
    (tmp_path / 'export').mkdir()
    (tmp_path / 'export/link').symlink_to(tmp_path)
    (tmp_path / 'export/images').mkdir()
    (tmp_path / 'export/images/link.jpg').symlink_to(tmp_path / 'secret.jpg')
    row = {'token': 'a', 'images': {FRONT: path}, 'caption': 'A.'}
    with pytest.raises(ClipVlmError, match=r'manifest\.json, sample 1: path .* leaves .*refused'):
        overlap(write_overlap(tmp_path / 'export', [row]))


@pytest.mark.parametrize(
    ('manifest', 'says'),
    [
        ([], "no list 'samples'"),
        ({'samples': []}, "no list of names 'cameras'"),
        ({'cameras': [FRONT, FRONT], 'samples': []}, 'a camera is named twice'),
        ({'cameras': [FRONT], 'samples': [{'images': {}}]}, 'sample 1 has no token'),
        ({'cameras': [FRONT], 'samples': [{'token': 'a'}]}, "sample 1: 'images' is no object"),
        (
            {'cameras': [FRONT], 'samples': [{'token': 'a', 'images': {}, 'caption': 3}]},
            'sample 1: its caption is no text',
        ),
        ({'cameras': [FRONT], 'samples': []}, '0 samples read, 0 kept'),
    ],
)
def test_a_manifest_that_makes_no_sense_is_named(tmp_path, manifest, says):
    write_json(tmp_path / 'manifest.json', manifest)
    with pytest.raises(ClipVlmError, match=says):
        overlap(tmp_path)


def test_an_unknown_camera_or_no_manifest_is_an_error(tmp_path):
    with pytest.raises(ClipVlmError, match=r'manifest\.json is missing'):
        overlap(tmp_path)
    write_overlap(tmp_path, [('a', 'A.')])
    with pytest.raises(ClipVlmError, match='has no CAM_ROOF; its cameras are CAM_FRONT, CAM_BACK'):
        overlap(tmp_path, '--cameras', 'CAM_ROOF')


# Samples --------------------------------------------------------------------------------------


def test_samples_that_contradict_themselves_are_refused():
    sample = CaptionedViews('a', {FRONT: Path('a.jpg')}, 'A.', '')
    with pytest.raises(ClipVlmError, match="sample 'a' has no picture"):
        CaptionedViews('a', {}, 'A.', '')
    with pytest.raises(ClipVlmError, match='blank caption'):
        CaptionedViews('a', {FRONT: Path('a.jpg')}, ' ', '')
    with pytest.raises(ClipVlmError, match='a picture of CAM_FRONT; the cameras are CAM_BACK'):
        SampleSet.of([sample], [BACK])
    with pytest.raises(ClipVlmError, match='counts are'):
        SampleSet((sample,), (FRONT,), {'read': 3, 'kept': 1, 'lost': 1})


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_text('no picture')
    with pytest.raises(ClipVlmError, match=r"a\.jpg of sample 'a' is not a picture"):
        read_views(CaptionedViews('a', {FRONT: path}, None, ''))
