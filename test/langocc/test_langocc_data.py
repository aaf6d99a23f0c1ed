import shutil

import numpy as np
import pytest
import torch
from small_langocc import small_config

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.reducer import Reducer, load_reducer, save_reducer
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.langocc import extract, train_reducer
from vlm_nodes.langocc.data import Batch, Moments, RayChoice, surround_of
from vlm_nodes.langocc.driven import Body
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.extract import at_pixels
from vlm_nodes.langocc.ray_store import RayStore
from vlm_nodes.langocc.recent import Recent
from vlm_nodes.surround import NuScenes, SurroundError, read_image


def extracted(street, out, *options):
    arguments = [str(street), '--out', str(out), '--clip-size', '32', '--threads', '1']
    arguments += ['--feature-dim', '12', '--rays-a-camera', '40', *options]
    assert extract.main(arguments) == 0
    return RayStore(out)


@pytest.fixture(scope='module')
def store(street, tmp_path_factory):
    return extracted(street, tmp_path_factory.mktemp('rays') / 'rays')


def test_rays_have_the_reduced_features_of_their_pixels(street, store):
    drives = NuScenes(street)
    keyframe = drives[1]
    rays = store.read(keyframe.token)
    assert rays.camera.shape == (240,)
    encoder = Encoder.load('tiny', image_size=32, num_threads=1)
    image = keyframe.cameras[store.page.cameras[2]]
    dense = encoder.encode_dense(read_image(image))
    mine = rays.camera == 2
    expected = store.reduce(at_pixels(dense, rays.pixels[mine], (64, 32)))
    np.testing.assert_allclose(rays.features[mine].astype(np.float32), expected, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    assert np.isnan(rays.depth_m).all()


def test_the_reducer_keeps_cosines_of_pictures_and_texts(street, store):
    encoder = Encoder.load('tiny', image_size=32, num_threads=1)
    dense = encoder.encode_dense(read_image(NuScenes(street)[0].cameras['CAM_BACK']))
    full = dense.reshape(-1, encoder.dim)
    reduced = store.reduce(full)
    np.testing.assert_allclose(reduced @ reduced.T, full @ full.T, atol=0.15)


def test_extraction_goes_on_where_it_stopped_and_in_shares(street, store, tmp_path):
    out = tmp_path / 'rays'
    first = extracted(street, out, '--end', '2')
    assert len(list((out / 'rays').iterdir())) == 2
    kept = (out / 'rays' / f'{NuScenes(street)[0].token}.npz').stat().st_mtime_ns
    extracted(street, out, '--start', '1')
    assert (out / 'rays' / f'{NuScenes(street)[0].token}.npz').stat().st_mtime_ns == kept
    for place in range(6):
        token = NuScenes(street)[place].token
        np.testing.assert_array_equal(first.read(token).features, store.read(token).features)


def test_workers_share_the_keyframes_out(street, store, tmp_path):
    shared = extracted(street, tmp_path / 'rays', '--workers', '2')
    for place in range(6):
        token = NuScenes(street)[place].token
        np.testing.assert_array_equal(shared.read(token).features, store.read(token).features)


def test_a_reducer_that_is_given_is_used_and_not_mixed(street, tmp_path, capsys):
    path = tmp_path / 'reducer.npz'
    assert train_reducer.main(['--out', str(path), '--dim', '10', '--threads', '1']) == 0
    options = ('--reducer', str(path), '--end', '1')
    store = extracted(street, tmp_path / 'rays', *options)
    reducer = load_reducer(path)
    assert store.page.feature_dim == 10
    np.testing.assert_array_equal(store.projection.basis, reducer.projection.basis)
    assert store.read(NuScenes(street)[0].token).features.shape[1] == 10
    other = tmp_path / 'other.npz'
    words = ['--out', str(other), '--dim', '10', '--by', 'autoencoder', '--threads', '1']
    assert train_reducer.main(words) == 0
    arguments = [str(street), '--out', str(tmp_path / 'rays'), '--reducer', str(other)]
    arguments += ['--clip-size', '32', '--rays-a-camera', '40', '--threads', '1']
    assert extract.main(arguments) == 2
    assert 'holds rays of another reducer' in capsys.readouterr().err
    save_reducer(other, Reducer(reducer.projection, 'ViT-L-14/x/naclip'), {})
    assert extract.main(arguments) == 2
    assert 'reduces features of ViT-L-14/x' in capsys.readouterr().err


def test_a_store_of_other_rays_is_not_mixed_with(street, store, tmp_path, capsys):
    shutil.copytree(store.folder, tmp_path / 'rays')
    arguments = [str(street), '--out', str(tmp_path / 'rays'), '--rays-a-camera', '41']
    assert extract.main([*arguments, '--clip-size', '32', '--feature-dim', '12']) == 2
    assert 'another rays' in capsys.readouterr().err


def test_lidar_rays_know_how_far_they_go(street, tmp_path):
    store = extracted(street, tmp_path / 'rays', '--source', 'lidar', '--end', '1')
    rays = store.read(NuScenes(street)[0].token)
    assert len(rays.camera) > 60
    assert np.isfinite(rays.depth_m).all()


def test_moments_have_rays_of_keyframes_about_them(street, store):
    drives = NuScenes(street)
    moments = Moments(drives, store, small_config(), RayChoice(90, 1, 1), fixed=True)
    assert len(moments) == 6
    moment = moments[1]
    assert moment.features.shape == (90, 12)
    places = {tuple(np.round(o, 3)) for o in moment.rays.origins_m.tolist()}
    # Six cameras at each of three moments of a moving vehicle.
    assert 15 <= len(places) <= 18
    edge = moments[0]
    assert len({tuple(np.round(o, 3)) for o in edge.rays.origins_m.tolist()}) <= 12


def test_rays_of_other_keyframes_meet_what_their_pixels_show(street, store):
    """A place seen by a later keyframe, in the frame of an earlier one."""
    drives = NuScenes(street)
    now, later = drives[0], drives[2]
    moments = Moments(drives, store, small_config(), RayChoice(400, 0, 2), fixed=True)
    moment = moments[0]
    origins = {tuple(np.round(o, 2)) for o in moment.rays.origins_m.tolist()}
    pose = invert(now.map_from_ego) @ later.cameras['CAM_FRONT'].map_from_camera
    assert tuple(np.round(transform_points(pose, np.zeros(3)), 2)) in origins


def test_cells_are_those_of_the_pixels_that_features_were_looked_up_on(street, store):
    config = small_config()
    moment = Moments(NuScenes(street), store, config, RayChoice(400, 0, 0), fixed=True)[2]
    stored = store.read(NuScenes(street)[2].token)
    height, width = config.feature_size
    camera = [config.cameras.index(store.page.cameras[c]) for c in stored.camera]
    u, v = stored.pixels.T
    row, column = v * height // 32, u * width // 64
    known = {
        (int((c * height + r) * width + k), tuple(f.tolist()))
        for c, r, k, f in zip(camera, row, column, stored.features, strict=True)
    }
    assert len(moment.cells) == 200
    features = moment.cell_features.numpy().astype(np.float16)
    found = zip(moment.cells.tolist(), features, strict=True)
    assert {(cell, tuple(feature.tolist())) for cell, feature in found} <= known


def test_what_was_read_is_kept_up_to_a_size():
    made = []

    def make(name):
        made.append(name)
        return name

    recent = Recent(10, len)
    for name in ('aaaa', 'bbbb', 'aaaa', 'cccc', 'aaaa', 'bbbb'):
        assert recent.get(name, lambda name=name: make(name)) == name
        assert recent.bytes <= 10
    assert made == ['aaaa', 'bbbb', 'cccc', 'bbbb']
    none = Recent(0, len)
    none.get('a', lambda: make('a'))
    assert len(none) == 0


def test_moments_draw_other_rays_each_time_unless_they_are_fixed(street, store):
    drives = NuScenes(street)
    torch.manual_seed(0)
    drawn = Moments(drives, store, small_config(), RayChoice(50, 0, 0))
    assert not torch.equal(drawn[0].rays.directions, drawn[0].rays.directions)
    fixed = Moments(drives, store, small_config(), RayChoice(50, 0, 0), fixed=True)
    assert torch.equal(fixed[0].rays.directions, fixed[0].rays.directions)


def test_the_first_of_a_drive_has_no_earlier_moment(street, store):
    config = small_config(previous=True)
    moments = Moments(NuScenes(street), store, config, RayChoice(20, 0, 0))
    first, second = moments[0], moments[1]
    assert first.previous is None
    pose = second.previous[2]
    # The vehicle has driven on: what is at its place now was ahead of it then.
    assert pose[0, 3] > 1
    assert abs(pose[1, 3]) < 0.5
    batch = Batch.of([first, second])
    assert batch.previous.images.shape == batch.now.images.shape
    assert batch.previous.rigs[0] == [None] * 6


def test_a_vehicle_was_where_its_body_is(street, store):
    body = Body((-0.3, -0.2, 0.1), (0.4, 0.5, 0.6))
    choice = RayChoice(20, 0, 0)
    moment = Moments(NuScenes(street), store, small_config(), choice, fixed=True, body=body)[1]
    lower, upper = moment.driven_m.min(0).values, moment.driven_m.max(0).values
    assert (lower >= torch.tensor(body.lower_m) - 1e-5).all()
    assert (upper <= torch.tensor(body.upper_m) + 1e-5).all()
    assert (upper - lower > 0.4).all()


def test_a_mirror_turns_what_is_known_in_space(street, store):
    moments = Moments(NuScenes(street), store, small_config(), RayChoice(20, 1, 1), fixed=True)
    batch = Batch.of([moments[1]])
    mirrored = batch.mirrored(1)
    sign = torch.tensor([1.0, -1.0, 1.0])
    assert torch.equal(mirrored.driven_m, batch.driven_m * sign)
    assert torch.equal(mirrored.rays.directions, batch.rays.directions * sign)
    assert torch.equal(mirrored.mirrored(1).driven_m, batch.driven_m)


def test_a_missing_camera_is_black_and_has_no_view(street):
    drives = NuScenes(street, cameras=('CAM_FRONT', 'CAM_BACK'))
    images, rig = surround_of(drives[0], small_config())
    assert [view is not None for view in rig] == [False, True, False, False, True, False]
    assert images[0].max() == 0
    assert images[1].max() > 0


def test_a_missing_picture_is_named_or_its_keyframe_left_out(street, store, tmp_path):
    copy = tmp_path / 'street'
    shutil.copytree(street, copy)
    gone = NuScenes(copy)[1].cameras['CAM_BACK'].path
    gone.unlink()
    moments = Moments(NuScenes(copy), store, small_config(), RayChoice(20, 0, 0))
    with pytest.raises(SurroundError, match=gone.name):
        moments[1]
    assert len(NuScenes(copy, require_files=True)) == 5


def test_stores_that_do_not_fit_are_refused(street, store, tmp_path):
    drives = NuScenes(street)
    with pytest.raises(LangOccError, match=r'12 numbers.*for 16'):
        Moments(drives, store, small_config(feature_dim=16), RayChoice(20, 0, 0))
    shutil.copytree(store.folder, tmp_path / 'rays')
    victim = tmp_path / 'rays' / 'rays' / f'{drives[3].token}.npz'
    victim.unlink()
    with pytest.raises(LangOccError, match='lacks the rays of 1 keyframes'):
        Moments(drives, RayStore(tmp_path / 'rays'), small_config(), RayChoice(20, 0, 0))
    victim.write_bytes(b'PK junk')
    with pytest.raises(LangOccError, match=f'{drives[3].token}.npz is broken'):
        RayStore(tmp_path / 'rays').read(drives[3].token)
    (tmp_path / 'rays' / 'rays.json').write_text('{"model": 1}')
    with pytest.raises(LangOccError, match=r'rays\.json'):
        RayStore(tmp_path / 'rays')
    with pytest.raises(LangOccError, match='keyframes at least 0'):
        RayChoice(10, -1, 0)
