import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_cliport import picture, sample, small_config, small_model

from vlm_nodes.cliport.augment import Augmentation
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import WEIGHTS_NAME, load_checkpoint, read_page
from vlm_nodes.cliport.episode import Episode, Step
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.parameters import workspace_difference
from vlm_nodes.cliport.poses import tool_pose
from vlm_nodes.cliport.samples import commonest_workspace, read_samples, samples_of
from vlm_nodes.cliport.train import main
from vlm_nodes.cliport.training import (
    Batch,
    CliportTraining,
    Demonstrations,
    TrainingConfig,
    cells,
)
from vlm_nodes.cliport.workspace import Workspace

WORKSPACE = Workspace((0.0, 0.64), (0.0, 0.64), pixel_m=0.01)
WORDS = ('red', 'green')


def episode(seed: int, task: str = 'put-block-in-bowl', steps: int = 1) -> Episode:
    seen = [Heightmap(*picture((64, 64), 10 * seed + k), WORKSPACE) for k in range(steps + 1)]
    pick, place = tool_pose((0.205, 0.105, 0.02), 0.2), tool_pose((0.505, 0.405, 0.02), 0.9)
    made = tuple(
        Step(each, f'put the {WORDS[seed % 2]} block in a bowl', pick, place, 1 / steps)
        for each in seen[:-1]
    )
    return Episode(task, 'train', seed, made, seen[-1])


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('episodes')
    for name, seeds in (('train', (0, 2)), ('val', (1,))):
        (root / name).mkdir()
        for seed in seeds:
            episode(seed).save(root / name / f'{seed:06d}.zip')
    return root


def test_demonstrations_become_samples() -> None:
    samples = samples_of(episode(0, steps=2))
    assert len(samples) == 2
    assert samples[0].pick == (10, 20)
    assert samples[0].place == (40, 50)
    assert samples[0].pick_angle_rad == pytest.approx(0.2)
    assert samples[0].place_angle_rad == pytest.approx(0.7)
    assert samples[0].instruction == 'put the red block in a bowl'


def test_labels_become_cells_and_bins() -> None:
    config = small_config(rotations=36, pick_angles=4)
    one = sample(pick=(20, 31), place=(41, 70), pick_angle_rad=math.pi * 0.76, place_angle_rad=-0.2)
    batch = Batch.of([one, sample()], config)
    assert batch.pick_cells.tolist() == [[10, 15], [10, 15]]
    assert batch.place_cells.tolist() == [[20, 35], [20, 35]]
    assert batch.pick_bins.tolist() == [3, 0]
    assert batch.place_bins.tolist() == [35, 0]
    assert cells([(0.0, 3.49), (3.5, 63.4)], 4).tolist() == [[0, 0], [1, 15]]


def test_tasks_are_drawn_evenly() -> None:
    episodes = [samples_of(episode(0, 'a', 3)), samples_of(episode(1, 'a', 1))]
    episodes += [samples_of(episode(2, 'b', 2))]
    weights = Demonstrations(episodes).weights.tolist()
    np.testing.assert_allclose(weights, [1 / 12] * 3 + [1 / 4] + [1 / 4] * 2)


def test_half_of_what_is_drawn_is_of_the_main_task() -> None:
    episodes = [samples_of(episode(seed, task)) for seed, task in enumerate('aabc')]
    weights = Demonstrations(episodes, TrainingConfig(main_task='a')).weights.tolist()
    np.testing.assert_allclose(weights, [1 / 4] * 4)
    alone = Demonstrations(episodes[:2], TrainingConfig(main_task='a')).weights.tolist()
    np.testing.assert_allclose(alone, [1 / 2] * 2)
    with pytest.raises(ValueError, match="main task 'd'; there are: a, b, c"):
        Demonstrations(episodes, TrainingConfig(main_task='d'))


def test_each_task_has_its_own_augmentation() -> None:
    still = Augmentation(0, 0)
    config = TrainingConfig(by_task={'put': Augmentation(0, 1), 'put-left': still})
    assert config.augmentation_of('put-left-of') is still
    assert config.augmentation_of('put-block').shift_px == 1
    assert config.augmentation_of('stack') == Augmentation()
    data = Demonstrations([samples_of(episode(0, 'put-left'))], config)
    assert data[0].pick == (10, 20)


def test_some_steps_learn_two_pictures() -> None:
    clip = FrozenClip.load('tiny')
    model = small_model(clip, spatial_widths=(16,) * 4, semantic_widths=(16,) * 5)
    module = CliportTraining(model.train(), TrainingConfig(steps=30))
    samples = [sample(seed=0, pick=(20, 30)), sample(seed=1, pick=(44, 60), place=(12, 20))]
    batch = Batch.of(samples, model.config)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(30):
        pick, place, *_ = module._losses(batch)
        optimizer.zero_grad()
        (pick + place).backward()
        optimizer.step()
        losses.append((float(pick.detach()), float(place.detach())))
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < 0.7 * losses[0][1]


def test_the_rate_rises_and_falls() -> None:
    config = TrainingConfig(steps=100, warm_up=0.1)
    rates = [config.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert 9 <= int(np.argmax(rates)) <= 10
    assert rates[100] == pytest.approx(0)
    assert TrainingConfig(steps=1).rate(0) == 1


@pytest.mark.parametrize(
    'changes', [{'learning_rate': 0}, {'weight_decay': 1}, {'warm_up': -0.1}, {'steps': 0}]
)
def test_a_bad_setting_is_named(changes) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainingConfig(**changes)


def command(folders, out, *more: str) -> list[str]:
    words = [str(folders / 'train'), '--val', str(folders / 'val'), '--out', str(out)]
    words += ['--batch', '2', '--rotations', '4', '--val-every', '2', '--accelerator', 'cpu']
    return [*words, *more]


@pytest.mark.filterwarnings('ignore')
def test_a_training_writes_checkpoints_and_goes_on(folders, tmp_path, capsys) -> None:
    out = tmp_path / 'run'
    assert main(command(folders, out, '--steps', '4', '--json')) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['steps'] == 4
    assert math.isfinite(figures['val_loss'])
    steps = sorted(path.name for path in (out / 'checkpoints').iterdir())
    assert steps == ['step-000002', 'step-000004']
    model = load_checkpoint(out / 'checkpoints' / 'step-000004')
    assert model.config.words == ('a', 'block', 'bowl', 'in', 'put', 'red', 'the')
    page = read_page(out / 'checkpoints' / 'step-000004')
    assert page['training']['tasks'] == ['put-block-in-bowl']
    assert page['training']['episodes'] == 2
    # So that cliport_node can refuse a workspace with other pixels.
    known = page['training']['workspace']
    assert workspace_difference(known, WORKSPACE) == ('', False)
    coarse = Workspace((0.0, 0.64), (0.0, 0.64), pixel_m=0.02)
    assert workspace_difference(known, coarse)[1]
    assert page['training']['figures']['val_loss'] > 0
    state = torch.load(out / 'last.ckpt', weights_only=True)
    assert state['optimizer_states'][0]['state']
    assert not any('visual' in name for name in state['state_dict'])
    assert any((out / 'tensorboard').iterdir())
    # It is not overwritten, and a finished one that is resumed stays as it is.
    assert main(command(folders, out, '--steps', '4')) == 2
    assert '--resume' in capsys.readouterr().err
    first = load_file(out / 'checkpoints' / 'step-000004' / WEIGHTS_NAME)
    assert main(command(folders, out, '--steps', '4', '--resume')) == 0
    again = load_file(out / 'checkpoints' / 'step-000004' / WEIGHTS_NAME)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert main(command(folders, out, '--steps', '6', '--resume')) == 2
    assert 'steps differ' in capsys.readouterr().err


@pytest.mark.filterwarnings('ignore')
def test_an_interrupted_training_goes_on_from_its_last_validation(
    folders, tmp_path, monkeypatch
) -> None:
    out, step = tmp_path / 'run', CliportTraining.training_step

    def interrupted(self, batch, index):
        if self.global_step == 3:
            raise OSError('the power is gone')
        return step(self, batch, index)

    monkeypatch.setattr(CliportTraining, 'training_step', interrupted)
    assert main(command(folders, out, '--steps', '4')) == 2
    assert [path.name for path in (out / 'checkpoints').iterdir()] == ['step-000002']
    monkeypatch.undo()
    assert main(command(folders, out, '--steps', '4', '--resume')) == 0
    steps = sorted(path.name for path in (out / 'checkpoints').iterdir())
    assert steps == ['step-000002', 'step-000004']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--steps', '0'], '--steps'),
        (['--resume'], 'nothing to resume'),
        (['--task-turn', 'put'], 'TASK=DEGREES'),
        (['--ema', '1'], '--ema'),
        (['--model', 'RN51'], 'RN51'),
        (['--main-task', 'align-rope'], 'align-rope'),
        (['--lr', '2'], 'learning_rate'),
    ],
)
def test_what_cannot_be_trained_is_said(folders, tmp_path, capsys, words, message) -> None:
    assert main(command(folders, tmp_path / 'run', *words)) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_episode_is_named(folders, tmp_path) -> None:
    path = tmp_path / '000000.zip'
    path.write_bytes((folders / 'val' / '000001.zip').read_bytes()[:-500])
    with pytest.raises(ValueError, match=r'000000\.zip'):
        read_samples([tmp_path])


def test_pictures_of_other_sizes_are_refused(folders, tmp_path) -> None:
    small = Workspace((0.0, 0.64), (0.0, 0.32), pixel_m=0.01)
    pick = tool_pose((0.2, 0.1, 0), 0)
    seen = Heightmap(*picture((32, 64)), small)
    Episode('t', 'train', 1, (Step(seen, 'x', pick, pick, 1),), seen).save(tmp_path / '000001.zip')
    with pytest.raises(ValueError, match='differ in size'):
        read_samples([folders / 'val', tmp_path])


def test_pixels_of_other_sizes_are_refused(folders, tmp_path) -> None:
    wide = Workspace((0.0, 1.28), (0.0, 1.28), pixel_m=0.02)
    pick = tool_pose((0.2, 0.1, 0), 0)
    seen = Heightmap(*picture((64, 64)), wide)
    Episode('t', 'train', 1, (Step(seen, 'x', pick, pick, 1),), seen).save(tmp_path / '000001.zip')
    with pytest.raises(ValueError, match=r'pixels differ in size: \[0\.01, 0\.02\] m'):
        read_samples([folders / 'val', tmp_path])


def test_the_workspace_of_most_episodes_is_remembered() -> None:
    there = samples_of(episode(0))
    moved = [replace(each, workspace=replace(WORKSPACE, z_range_m=(0, 0.3))) for each in there]
    silent = [replace(each, workspace=None) for each in there]
    assert commonest_workspace([moved, there, silent, there, silent, silent]) == WORKSPACE
    assert commonest_workspace([silent]) is None
