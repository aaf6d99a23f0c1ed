import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_langocc import GRID, random_rays, random_surround, small_model

from vlm_nodes.clip.label_images import LabelImages
from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc import evaluate, street_labels, train
from vlm_nodes.langocc.checkpoint import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    Checkpoint,
    FeatureSpace,
    load_checkpoint,
    save_checkpoint,
)
from vlm_nodes.langocc.data import Batch, surround_of
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.losses import LossWeights
from vlm_nodes.langocc.model import Surround
from vlm_nodes.langocc.predictor import Prediction, Predictor
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS
from vlm_nodes.langocc.retrieval import PointQueries, score_retrieval, write_benchmark
from vlm_nodes.langocc.street_queries import street_queries, visible_points
from vlm_nodes.langocc.training import LangOccTraining, TrainingConfig
from vlm_nodes.langocc.vocabulary import ClassTexts, TextVectors
from vlm_nodes.simulation.street.truth_files import read_pixel_truth
from vlm_nodes.surround import NuScenes, VoxelGrid, read_image, read_occupancy
from vlm_nodes.surround.occupancy import CLASSES, FREE, occupancy_path

OPTIONS = [
    *('--size', 'small', '--clip-size', '32', '--rays-a-camera', '60', '--feature-dim', '16'),
    *('--hidden', '8', '--image-size', '32', '64', '--rays', '60', '--before', '1', '--after', '1'),
    *('--lower', '-8', '-8', '-1', '--upper', '8', '8', '5.4', '--voxel', '1.6'),
    *('--rarity', '0.5'),
    *('--batch', '2', '--lr', '5e-3', '--ema', '0.5', '--threads', '1', '--accelerator', 'cpu'),
]


def run_training(street, out, steps, *more):
    arguments = [str(street), '--val', str(street), '--out', str(out), '--steps', str(steps)]
    return train.main([*arguments, *OPTIONS, *more])


@pytest.fixture(scope='module')
def trained(street, tmp_path_factory):
    out = tmp_path_factory.mktemp('training') / 'run'
    assert run_training(street, out, 6, '--keep-every', '1', '--json') == 0
    return out


def test_training_leaves_networks_logs_rays_and_its_options(trained):
    checkpoint = load_checkpoint(trained, GRID)
    assert checkpoint.training['step'] == 6
    assert checkpoint.space.identity.startswith('tiny/')
    assert checkpoint.space.projection.reduced_dim == 16
    assert (trained / 'epoch-001' / WEIGHTS_NAME).is_file()
    assert 'loss' in (trained / 'csv' / 'metrics.csv').read_text()
    assert len(list((trained / 'rays' / 'rays').iterdir())) == 6
    assert json.loads((trained / 'options.json').read_text())['options']['steps'] == 6


def test_training_is_not_overwritten_and_resumes_only_as_it_was(street, trained, capsys):
    assert run_training(street, trained, 6) == 2
    assert 'is not empty' in capsys.readouterr().err
    assert run_training(street, trained, 9, '--resume') == 2
    assert 'steps differ' in capsys.readouterr().err
    assert run_training(street, trained.parent / 'none', 6, '--resume') == 2
    assert 'nothing to resume' in capsys.readouterr().err


def test_training_goes_on_where_it_was_killed(street, tmp_path, monkeypatch):
    """Killed after an epoch of three steps: the rest is done, and the steps are counted on."""

    def killed(self, batch, index):
        if self.trainer.global_step == 3:
            raise KeyboardInterrupt
        return plain(self, batch, index)

    plain = LangOccTraining.training_step
    with monkeypatch.context() as patch:
        patch.setattr(LangOccTraining, 'training_step', killed)
        with pytest.raises(SystemExit):
            run_training(street, tmp_path / 'run', 6)
    assert load_checkpoint(tmp_path / 'run').training['step'] == 3
    assert run_training(street, tmp_path / 'run', 6, '--resume') == 0
    assert load_checkpoint(tmp_path / 'run').training['step'] == 6


def test_bad_options_are_one_line(street, tmp_path, capsys):
    assert run_training(street, tmp_path / 'a', 0) == 2
    assert '--steps must be at least 1' in capsys.readouterr().err
    assert run_training(street, tmp_path / 'b', 3, '--hidden', '8', '--voxel', '0.7') == 2
    assert 'do not divide' in capsys.readouterr().err
    assert run_training(street, tmp_path / 'c', 3, '--body', *map(str, (0, 0, 1, 1, 1, 0))) == 2
    assert "a body's corners must be in order" in capsys.readouterr().err
    assert run_training(street, tmp_path / 'c', 3, '--store', str(tmp_path)) == 2
    assert 'rays.json' in capsys.readouterr().err


def batch_of():
    rays = random_rays(count=80)
    features = torch.nn.functional.normalize(torch.randn(1, 80, 12), dim=-1)
    cells = torch.arange(10)[None]
    unknown = torch.full((1, 80), torch.nan)
    driven = torch.rand(1, 16, 3) + 0.5
    return Batch(random_surround(), rays, features, unknown, cells, features[:, :10], driven)


def test_mirroring_changes_what_is_answered_and_needs_an_even_grid():
    model = small_model().eval()
    surround = random_surround()
    with torch.no_grad():
        plain, turned = model(surround), model(surround, mirror=(0,))
    assert not torch.allclose(plain.density, turned.density)
    grid = VoxelGrid((-8.0, -6.4, -1.0), (8.0, 8.0, 5.4), 1.6)
    with pytest.raises(LangOccError, match='even about the vehicle'):
        LangOccTraining(small_model(grid=grid), TrainingConfig())
    LangOccTraining(small_model(grid=grid), TrainingConfig(mirror=False))


def test_steps_of_training_make_rays_see_what_they_should():
    model = small_model()
    torch.manual_seed(1)
    module = LangOccTraining(model, TrainingConfig(drop_camera=0.1))
    module.log_dict = lambda *args, **kwargs: None
    batch = batch_of()
    up = (batch.rays.directions[..., 2:] > 0).float()
    target = torch.zeros(1, 80, 12)
    target[..., :1], target[..., 1:2] = up, 1 - up
    batch = replace(batch, features=target)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_pictures_learn_what_their_own_pixels_are():
    module = LangOccTraining(small_model(), TrainingConfig())
    module.log_dict = lambda *args, **kwargs: None
    batch = batch_of()
    volume = module.model(batch.now)
    seen = module.model.render(volume, batch.rays)
    first = module._losses(seen, volume, batch)['pictures']
    optimizer = torch.optim.Adam(module.model.parameters(), 1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        module._losses(seen, module.model(batch.now), batch)['pictures'].backward()
        optimizer.step()
    assert module._losses(seen, module.model(batch.now), batch)['pictures'] < 0.5 * first
    assert 'pictures' not in module._losses(seen, module.model.eval()(batch.now), batch)


def test_steps_of_training_clear_the_space_that_was_driven_through():
    losses = LossWeights(squared=1e-6, cosine=0.0, sparsity=0.0, spread=0.0, pictures=0.0, driven=1)
    module = LangOccTraining(small_model(), TrainingConfig(losses=losses))
    module.log_dict = lambda *args, **kwargs: None
    batch = batch_of()
    optimizer = torch.optim.Adam(module.model.parameters(), 3e-3)
    found = []
    for _ in range(8):
        volume = module.model(batch.now)
        parts = module._losses(module.model.render(volume, batch.rays), volume, batch)
        optimizer.zero_grad()
        parts['loss'].backward()
        optimizer.step()
        found.append(parts['driven'].item())
    assert found[-1] < 0.5 * found[0]


def test_sky_counts_by_words_and_not_without():
    config = TrainingConfig(losses=LossWeights(sky=0.1))
    with pytest.raises(LangOccError, match='no words'):
        LangOccTraining(small_model(), config)
    batch = batch_of()
    module = LangOccTraining(small_model(), config, torch.eye(12)[:3])
    module.log_dict = lambda *args, **kwargs: None
    model = module.model.eval()
    volume = model(batch.now)
    seen = model.render(volume, batch.rays)
    sky, house = (replace(batch, features=torch.eye(12)[k].expand(1, 80, 12)) for k in (0, 1))
    found = module._losses(seen, volume, sky)['sky'].item()
    np.testing.assert_allclose(found, -0.1 * (1 - seen.opacity).log().mean().item(), rtol=1e-3)
    assert module._losses(seen, volume, house)['sky'] == 0


def test_half_precision_trains_with_both_ways_of_lifting():
    for lift in ('pull', 'push'):
        module = LangOccTraining(small_model(lift=lift), TrainingConfig())
        module.log_dict = lambda *args, **kwargs: None
        with torch.autocast('cpu', torch.bfloat16):
            loss = module.training_step(batch_of(), 0)
        loss.backward()
        assert torch.isfinite(loss)


def test_depth_without_distances_is_refused_or_unknown():
    model = small_model()
    batch = batch_of()
    module = LangOccTraining(model, TrainingConfig(losses=LossWeights(depth=1.0)))
    module.log_dict = lambda *args, **kwargs: None
    assert torch.isfinite(module.training_step(batch, 0))


def test_the_learning_rate_rises_and_falls():
    config = TrainingConfig(steps=100, warm_up=0.1)
    rates = [config.rate(step) for step in range(101)]
    assert rates[0] < 0.2
    assert max(rates) > 0.95
    assert rates[100] == pytest.approx(0, abs=1e-9)
    with pytest.raises(LangOccError, match='learning_rate'):
        TrainingConfig(learning_rate=0)
    with pytest.raises(LangOccError, match='drop_camera'):
        TrainingConfig(drop_camera=1.5)


SPACE = FeatureSpace(
    'tiny', None, 'tiny/x/value',
    FeatureProjection.fit(np.random.default_rng(0).normal(size=(50, 20)), 12, centred=False),
)  # fmt: skip


def test_checkpoints_come_back_as_they_were(tmp_path):
    model = small_model().eval()
    save_checkpoint(tmp_path, model, SPACE, training={'step': 7})
    loaded = load_checkpoint(tmp_path, GRID)
    surround = random_surround()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(surround).density, model(surround).density)
    np.testing.assert_array_equal(loaded.space.projection.basis, SPACE.projection.basis)
    assert loaded.training == {'step': 7}
    save_checkpoint(tmp_path, model, SPACE, half=True)
    assert load_file(tmp_path / WEIGHTS_NAME)['code'].dtype == torch.float16
    load_checkpoint(tmp_path)


def test_checkpoints_of_another_grid_or_damaged_are_refused(tmp_path):
    save_checkpoint(tmp_path, small_model(), SPACE)
    with pytest.raises(LangOccError, match=r'in 1\.6 m, not .* in 0\.4 m'):
        load_checkpoint(tmp_path, VoxelGrid())
    page = json.loads((tmp_path / CONFIG_NAME).read_text())
    page['model']['trunk'] = [8, 24]
    (tmp_path / CONFIG_NAME).write_text(json.dumps(page))
    with pytest.raises(LangOccError, match='no LangOcc network'):
        load_checkpoint(tmp_path)
    weights = (tmp_path / WEIGHTS_NAME).read_bytes()
    (tmp_path / WEIGHTS_NAME).write_bytes(weights[:-100])
    with pytest.raises(LangOccError, match='damaged'):
        load_checkpoint(tmp_path)
    (tmp_path / CONFIG_NAME).write_text('[]')
    with pytest.raises(LangOccError, match='no page'):
        load_checkpoint(tmp_path)
    with pytest.raises(LangOccError, match='cannot read'):
        load_checkpoint(tmp_path / 'none')


def test_predictions_take_the_cameras_that_are_there(street, trained):
    predictor = Predictor(load_checkpoint(trained))
    keyframe = NuScenes(street)[0]
    every = predictor.predict_keyframe(keyframe)
    some = predictor.predict_keyframe(keyframe, ('CAM_FRONT',))
    assert every.opacity().shape == GRID.shape
    assert not np.allclose(every.opacity(), some.opacity())
    with pytest.raises(LangOccError, match='CAM_TOP'):
        predictor.predict({'CAM_TOP': np.zeros((2, 2, 3), np.uint8)}, {})


def test_networks_that_fuse_an_earlier_moment_are_given_it(street):
    """As in training: the keyframe before, moved by the vehicle's way since."""
    drives = NuScenes(street)
    space = FeatureSpace('tiny', None, 'tiny/x/value', None)
    predictor = Predictor(Checkpoint(small_model(previous=True).eval(), space, {}))
    config = predictor.config
    first, second = drives[0], drives[1]
    alone = predictor.predict_keyframe(second).opacity()
    fused = predictor.predict_place(drives, 1).opacity()
    assert np.abs(fused - alone).max() > 1e-4
    np.testing.assert_array_equal(
        predictor.predict_place(drives, 0).opacity(), predictor.predict_keyframe(first).opacity()
    )
    now, then = (surround_of(keyframe, config) for keyframe in (second, first))
    pose = torch.from_numpy(invert(first.map_from_ego) @ second.map_from_ego).float()[None]
    with torch.no_grad():
        volume = predictor.model(
            *(Surround(images[None].float() / 255, [rig]) for images, rig in (now, then)), pose
        )
    np.testing.assert_allclose(fused, Prediction(volume, config.grid).opacity(), atol=1e-5)


def test_pictures_that_are_none_are_refused(street, trained):
    predictor = Predictor(load_checkpoint(trained))
    keyframe = NuScenes(street)[0]
    view = {'CAM_FRONT': RigView(keyframe.cameras['CAM_FRONT'].camera, np.eye(4))}
    with pytest.raises(LangOccError, match='CAM_FRONT has a picture, but no calibration'):
        predictor.predict({'CAM_FRONT': np.zeros((32, 64, 3), np.uint8)}, {})
    with pytest.raises(LangOccError, match='float32'):
        predictor.predict({'CAM_FRONT': np.full((32, 64, 3), np.nan, np.float32)}, view)
    with pytest.raises(LangOccError, match=r'10x10 pixels.*64x32'):
        predictor.predict({'CAM_FRONT': np.zeros((10, 10, 3), np.uint8)}, view)


def test_texts_are_kept_and_need_the_same_clip(trained, tmp_path):
    checkpoint = load_checkpoint(trained)
    encode = TextVectors(checkpoint.space, tmp_path)
    first = encode(['red car', 'tree'])
    gone = FeatureSpace('no such model', None, checkpoint.space.identity, None)
    np.testing.assert_array_equal(TextVectors(gone, tmp_path)(['red car', 'tree']), first)
    other = FeatureSpace('tiny', None, 'tiny/0123/value', None)
    with pytest.raises(LangOccError, match='tiny/0123'):
        TextVectors(other)(['red car'])


def test_voxels_get_the_class_of_their_best_prompt(trained):
    checkpoint = load_checkpoint(trained)
    texts = ClassTexts.of(
        checkpoint, TextVectors(checkpoint.space), {'car': ('red ball', 'mug'), 'truck': ('bear',)}
    )
    numbers, scores = texts.classify(texts.vectors[[0, 1, 2]])
    assert numbers.tolist() == [CLASSES.index(n) for n in ('car', 'car', 'truck')]
    assert scores.shape == (3,)
    # What looks like sky is nothing.
    assert texts.classify(texts.vectors[[3]])[0].tolist() == [FREE]


def test_evaluation_says_its_figures_and_draws(street, trained, tmp_path, capsys):
    drives = NuScenes(street, lidar=True)
    queries = street_queries(drives, 0, synonyms=False) + street_queries(drives, 4, synonyms=True)
    write_benchmark(tmp_path / 'queries.csv', queries)
    arguments = [str(trained), str(street), '--json', '--save-occ-path', str(tmp_path / 'occ')]
    arguments += ['--retrieval', str(tmp_path / 'queries.csv'), '--threshold', '0.1']
    assert evaluate.main([*arguments, '--classes', 'car', 'driveable_surface']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert 0 <= figures['iou'] <= 1
    assert 0 <= figures['miou_17'] <= 1
    assert figures['classes']['manmade'] == 0  # was not to be predicted
    assert figures['retrieval']['all']['map'] > 0
    keyframe = drives[0]
    path = occupancy_path(tmp_path / 'occ', keyframe.scene, keyframe.token)
    predicted = read_occupancy(path).semantics
    names = {CLASSES[n] for n in np.unique(predicted)}
    assert names <= {'car', 'driveable_surface', 'free'}
    above = cv2.imread(str(path.with_name('above.png')))
    assert above.shape == (40, 88, 3)
    cameras = cv2.imread(str(path.with_name('cameras.png')))
    assert cameras.shape == (6 * 96, 3 * 192, 3)
    assert cameras.std() > 1


def test_evaluation_names_what_is_wrong(street, trained, capsys):
    assert evaluate.main([str(trained), str(street), '--threshold', '2']) == 2
    assert '--threshold' in capsys.readouterr().err
    assert evaluate.main([str(trained), str(street), '--classes', 'unicorn']) == 2
    assert 'unicorn' in capsys.readouterr().err
    assert evaluate.main([str(trained / 'none'), str(street)]) == 2
    assert 'cannot read a LangOcc checkpoint' in capsys.readouterr().err


def test_queries_of_unknown_samples_are_refused(street, trained):
    predictor = Predictor(load_checkpoint(trained))
    drives = NuScenes(street, lidar=True)
    query = street_queries(drives, 0, synonyms=False)[0]
    encode = TextVectors(predictor.checkpoint.space)
    lost = PointQueries('nowhere', query.query, query.wanted, query.visible)
    with pytest.raises(LangOccError, match='is not there'):
        score_retrieval(predictor, [drives], encode, [lost])


def test_points_that_cameras_see_are_most_of_those_about_the_vehicle(street):
    visible = visible_points(NuScenes(street, lidar=True)[0])
    assert 0.2 < visible.mean() < 1
    with pytest.raises(LangOccError, match='no LiDAR'):
        visible_points(NuScenes(street)[0])


def test_street_labels_name_each_class_by_two_words(street, tmp_path, capsys):
    assert street_labels.main([str(street), '--out', str(tmp_path / 'labels'), '--step', '5']) == 0
    labels = LabelImages.open(tmp_path / 'labels')
    assert len(labels) == 8
    assert labels.labels[1] == 'road'
    drives = NuScenes(street)
    image = drives[0].cameras['CAM_BACK_RIGHT']  # the sixth, so the second that is taken
    rgb, numbers = labels.read(1)
    np.testing.assert_array_equal(rgb, read_image(image))
    truth = read_pixel_truth(image.path).semantics
    assert {labels.labels[n] for n in np.unique(numbers[truth == FREE])} <= {'heaven'}
    road = truth == CLASSES.index('driveable_surface')
    assert {labels.labels[n] for n in np.unique(numbers[road])} <= {'asphalt'}
    assert street_labels.main([str(street), '--out', str(tmp_path / 'labels')]) == 2
    assert 'exists already' in capsys.readouterr().err
    assert set(street_labels.WORDS) - {'free'} <= set(OCC3D_PROMPTS)


def test_missing_cameras_may_stand_anywhere_in_a_batch():
    model = small_model().eval()
    one, two = random_surround(missing=('CAM_BACK',)), random_surround()
    both = Surround(torch.cat([one.images, two.images]), [*one.rigs, *two.rigs])
    with torch.no_grad():
        together, alone = model(both), model(one)
    torch.testing.assert_close(together.density[:1], alone.density, atol=1e-4, rtol=1e-3)
