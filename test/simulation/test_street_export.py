import json

import numpy as np
import pytest

from vlm_nodes.simulation.street.captions import describe_scene, describe_view, sightings
from vlm_nodes.simulation.street.command import main
from vlm_nodes.simulation.street.recorder import Recorder, Settings, make_scene
from vlm_nodes.simulation.street.truth_files import (
    read_pixel_truth,
    read_point_truth,
    truth_path,
)
from vlm_nodes.simulation.street.vocabulary import VAL_SEEDS
from vlm_nodes.surround import CAMERAS, NuScenes, SurroundError, read_image, read_points
from vlm_nodes.surround.occupancy import occupancy_path, read_occupancy

GRID = ('--lower', '-16', '-16', '-1', '--upper', '16', '16', '5.4', '--voxel', '0.8')
SMALL = ('--keyframes', '2', '--width', '64', '--height', '40', '--samples', '0', *GRID)


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp('street') / 'val'
    assert main(['--out', str(folder), '--scenes', '2', '--split', 'val', *SMALL]) == 0
    return folder


def test_what_is_read_is_what_was_recorded(out):
    drives = NuScenes(out, lidar=True, require_files=True)
    assert len(drives) == 4
    assert not str(drives.left_out)
    assert list(drives.scenes().values()) == [[0, 1], [2, 3]]
    settings = Settings(width=64, height=40, keyframes=2, samples=0)
    with Recorder(settings) as recorder:
        recorded = recorder.keyframe(make_scene(VAL_SEEDS.start + 1, settings), 1)
    keyframe = drives[3]
    assert keyframe.stamp_ns == recorded.stamp_ns
    np.testing.assert_allclose(keyframe.map_from_ego, recorded.map_from_ego, atol=1e-9)
    assert list(keyframe.cameras) == list(CAMERAS)
    for name, image in keyframe.cameras.items():
        view = recorded.views[name]
        assert image.camera == view.camera
        assert image.stamp_ns == view.stamp_ns
        np.testing.assert_allclose(image.map_from_ego, view.map_from_ego, atol=1e-9)
        np.testing.assert_allclose(image.ego_from_camera, view.ego_from_camera, atol=1e-9)
        # JPEG changes hard edges by a few grey values.
        error = np.abs(read_image(image).astype(float) - view.rgb)
        assert error.mean() < 3
        truth = read_pixel_truth(image.path)
        np.testing.assert_array_equal(truth.depth_m, view.depth_m)
        np.testing.assert_array_equal(truth.semantics, view.semantics)
        np.testing.assert_array_equal(truth.things, view.things)
    np.testing.assert_array_equal(read_points(keyframe.lidar), recorded.sweep.points)
    np.testing.assert_array_equal(read_point_truth(keyframe.lidar.path), recorded.sweep.semantics)
    np.testing.assert_allclose(
        keyframe.lidar.ego_from_lidar, recorded.sweep.ego_from_lidar, atol=1e-9
    )


def test_every_keyframe_has_labels_in_its_grid(out):
    for keyframe in NuScenes(out):
        labels = read_occupancy(occupancy_path(out, keyframe.scene, keyframe.token))
        assert labels.semantics.shape == (40, 40, 8)
        assert labels.mask_camera.any()
        assert labels.mask_lidar.any()


def test_captions_say_what_is_visible(out):
    captions = json.loads((out / 'captions.json').read_text())
    views = json.loads((out / 'view_captions.json').read_text())
    objects = json.loads((out / 'objects.json').read_text())
    drives = NuScenes(out)
    assert set(captions) == set(views) == set(objects) == {k.token for k in drives}
    named = 0
    settings = Settings(width=64, height=40, keyframes=2)
    for keyframe in drives:
        things = make_scene(int(keyframe.scene.removeprefix('scene-')), settings).street.things
        seen = {
            name: sightings(read_pixel_truth(image.path).things, things)
            for name, image in keyframe.cameras.items()
        }
        assert captions[keyframe.token] == describe_scene(seen)
        for name, found in seen.items():
            assert views[keyframe.token][name] == describe_view(found)
            listed = objects[keyframe.token][name]
            assert [(o['colour'], o['kind']) for o in listed] == [
                (s.thing.colour, s.thing.kind) for s in found
            ]
            named += len(found)
    assert named > 10


def test_the_same_options_give_the_same_files(out, tmp_path):
    again = tmp_path / 'again'
    assert main(['--out', str(again), '--scenes', '2', '--split', 'val', *SMALL]) == 0
    names = sorted(p.relative_to(again) for p in again.rglob('*') if p.is_file())
    mine = sorted(p.relative_to(out) for p in out.rglob('*') if p.is_file())
    assert names == [name for name in mine if not name.name.startswith('.')]
    for name in names:
        if name.suffix == '.npz':
            with np.load(again / name) as first, np.load(out / name) as second:
                for key in first:
                    np.testing.assert_array_equal(first[key], second[key])
        else:
            assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_a_subset_of_cameras_without_extras(tmp_path):
    folder = tmp_path / 'few'
    some = ['--cameras', 'CAM_BACK', 'CAM_FRONT', '--no-lidar', '--no-truth', '--keyframes', '1']
    assert main(['--out', str(folder), '--scenes', '1', *SMALL, *some]) == 0
    names = ('CAM_BACK', 'CAM_FRONT')
    (keyframe,) = NuScenes(folder, cameras=names, require_files=True)
    assert list(keyframe.cameras) == list(names)
    assert keyframe.scene == 'scene-0000000'
    assert not truth_path(keyframe.cameras['CAM_BACK'].path).exists()
    with pytest.raises(SurroundError, match='only simulated streets'):
        read_pixel_truth(keyframe.cameras['CAM_BACK'].path)
    assert not (folder / 'samples/LIDAR_TOP').exists()


def test_what_the_tool_refuses(out, tmp_path, capsys):
    assert main(['--out', str(out), *SMALL]) == 2
    assert 'exists already' in capsys.readouterr().err
    (tmp_path / 'mine').write_text('precious')
    assert main(['--out', str(tmp_path), '--overwrite', *SMALL]) == 2
    assert 'holds mine' in capsys.readouterr().err
    new = str(tmp_path / 'new')
    for options, message in (
        (['--scenes', '0'], 'not in split'),
        (['--seed', '-1'], 'not in split'),
        (['--keyframes', '0'], 'keyframes must be'),
        (['--cameras', 'CAM_TOP'], 'CAM_TOP'),
        (['--voxel', '0.3'], 'do not divide'),
    ):
        assert main(['--out', new, *SMALL, *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
    assert (tmp_path / 'mine').read_text() == 'precious'


def test_damaged_truth_is_named(out, tmp_path):
    path = tmp_path / 'truth/CAM_FRONT/a.npz'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'PK nothing')
    with pytest.raises(SurroundError, match=r'a\.npz is broken'):
        read_pixel_truth(tmp_path / 'samples/CAM_FRONT/a.jpg')
