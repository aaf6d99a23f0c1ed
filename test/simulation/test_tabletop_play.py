"""Whole episodes: experts, other actions, and the same again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlm_nodes.simulation.shapes import star_prism
from vlm_nodes.simulation.tabletop import Tabletop, make_task
from vlm_nodes.simulation.tabletop.cameras import Cameras
from vlm_nodes.simulation.tabletop.registry import FAMILIES
from vlm_nodes.simulation.tabletop.tabletop import DONE_INSTRUCTION

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def cameras():
    with Cameras() as cameras:
        yield cameras


def table_of(name, seed, cameras, **options):
    table = Tabletop(make_task(name, **options), seed, cameras)
    table.reset()
    return table


def pose_at(x, y, z=0.0, yaw=0.0):
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def play(table):
    rewards = []
    while not table.is_done:
        pick, place, _ = table.oracle()
        reward, _, info = table.step(pick, place)
        rewards.append(reward)
    return rewards, info


@pytest.mark.parametrize('family', FAMILIES)
def test_the_expert_does_all_of_every_task(family, cameras):
    table = table_of(family, 10003, cameras)
    rewards, info = play(table)
    assert info.is_success
    assert sum(rewards) == pytest.approx(1)
    assert info.instruction == DONE_INSTRUCTION
    with pytest.raises(RuntimeError, match='is over'):
        table.step(pose_at(0.5, 0), pose_at(0.5, 0))
    with pytest.raises(RuntimeError, match='nothing is left'):
        table.oracle()


@pytest.mark.parametrize('family', ['put-block-in-bowl', 'align-rope'])
def test_a_seed_gives_the_same_episode_to_the_bit(family, cameras):
    first, second = table_of(family, 6, cameras), table_of(family, 6, cameras)
    for _ in range(2):
        for a, b in zip(first.observe(), second.observe(), strict=True):
            np.testing.assert_array_equal(a.rgb, b.rgb)
            np.testing.assert_array_equal(a.depth_m, b.depth_m)
        actions = first.oracle(), second.oracle()
        np.testing.assert_array_equal(actions[0][0], actions[1][0])
        np.testing.assert_array_equal(actions[0][1], actions[1][1])
        assert first.step(*actions[0][:2]) == second.step(*actions[1][:2])
        if first.is_done:
            break
    other = table_of(family, 8, cameras)
    assert (other.observe()[0].rgb != first.observe()[0].rgb).any()


def test_looking_changes_nothing(cameras):
    watched, unwatched = (table_of('stack-block-pyramid-seq', 4, cameras) for _ in range(2))
    for _ in range(2):
        watched.observe()
        pick, place, _ = watched.oracle()
        unwatched.oracle()
        watched.step(pick, place)
        unwatched.step(pick, place)
    for a, b in zip(watched.truth(), unwatched.truth(), strict=True):
        np.testing.assert_array_equal(a.table_from_body, b.table_from_body)


def test_the_views_see_the_bodies_where_the_truth_says(cameras):
    table = table_of('put-block-in-bowl', 2, cameras)
    views = table.observe()
    assert [view.name for view in views] == ['front', 'left', 'right']
    blocks = [body for body in table.truth() if body.label.endswith('block')]
    assert blocks
    for view in views:
        assert view.rgb.shape == (480, 640, 3)
        assert view.depth_m.dtype == np.float32
        rays = np.dstack([view.camera.rays(), np.ones(view.depth_m.shape)])
        turn, eye = view.table_from_camera[:3, :3], view.table_from_camera[:3, 3]
        points = (rays * view.depth_m[..., None] @ turn.T + eye).reshape(-1, 3)
        near = points[np.isfinite(points).all(axis=1)]
        near = near[(np.abs(near[:, 0] - 0.5) < 0.25) & (np.abs(near[:, 1]) < 0.5)]
        assert (np.abs(near[:, 2]) < 1e-3).mean() > 0.5
        assert near[:, 2].min() > -1e-3
        for block in blocks:
            away = near - block.table_from_body[:3, 3]
            top = (np.linalg.norm(away[:, :2], axis=1) < 0.015) & (near[:, 2] > 0.02)
            assert top.sum() > 20
            np.testing.assert_allclose(near[top][:, 2], 0.04, atol=2e-3)


def test_from_above_bodies_are_where_the_truth_says(cameras):
    table = table_of('put-block-in-bowl', 2, cameras)
    numbers = cameras.bodies_from_above(table.world)
    assert numbers.shape == (320, 160)
    for index, body in enumerate(table.truth()):
        rows, columns = np.nonzero(numbers == index + 1)
        x = 0.25 + (columns.mean() + 0.5) * 0.003125
        y = -0.5 + (rows.mean() + 0.5) * 0.003125
        np.testing.assert_allclose((x, y), body.table_from_body[:2, 3], atol=2.5e-3)


def test_the_wrong_block_in_the_right_bowl_gives_nothing(cameras):
    table = table_of('put-block-in-bowl', 0, cameras)
    truth = {body.name: body for body in table.truth()}
    wrong = next(
        body for name, body in truth.items()
        if name.startswith('distractor') and body.label.endswith('block')
    )  # fmt: skip
    bowl = truth['bowl_0'].table_from_body[:2, 3]
    reward, _, info = table.step(pose_at(*wrong.table_from_body[:2, 3]), pose_at(*bowl))
    assert (reward, info.picked) == (0, wrong.name)
    there = next(body for body in table.truth() if body.name == wrong.name)
    np.testing.assert_allclose(there.table_from_body[:2, 3], bowl, atol=0.02)


def test_the_right_block_beside_the_bowl_gives_nothing_and_in_it_its_share(cameras):
    table = table_of('put-block-in-bowl', 0, cameras)
    assert sum(body.name.startswith('block') for body in table.truth()) == 2
    pick, place, _ = table.oracle()
    assert table.step(pick, pose_at(0.35, -0.1))[0] == 0
    pick, place, _ = table.oracle()
    assert table.step(pick, place)[0] == 0.5


def test_a_turned_place_turns_what_is_held(cameras):
    table = table_of('packing-boxes-pairs', 1, cameras)
    name = 'box_0'
    body = next(each for each in table.truth() if each.name == name).table_from_body
    pick = pose_at(*body[:2, 3])
    table.step(pick, pose_at(*body[:2, 3], yaw=np.radians(50)))
    after = next(each for each in table.truth() if each.name == name).table_from_body
    turned = np.arctan2(after[1, 0], after[0, 0]) - np.arctan2(body[1, 0], body[0, 0])
    turned = np.degrees((turned + np.pi) % (2 * np.pi) - np.pi)
    assert turned == pytest.approx(50, abs=3)


@pytest.mark.parametrize('family', ['put-block-in-bowl', 'align-rope', 'separating-piles'])
def test_silly_actions_do_no_harm(family, cameras):
    far, up = pose_at(40.0, -70.0), pose_at(0.5, 0.0, 9.0, 3.0)
    below = pose_at(0.26, -0.49, -5.0)
    down = pose_at(0.3, 0.4) @ np.diag([1.0, -1.0, -1.0, 1.0])
    for seed, (pick, place) in enumerate([(far, up), (up, far), (below, below), (down, up)]):
        table = table_of(family, seed, cameras)
        reward, _, info = table.step(pick, place)
        assert np.isfinite(reward)
        assert reward < 0.5
        assert info.steps == 1
        assert all(np.isfinite(body.table_from_body).all() for body in table.truth())
        assert table.observe()[0].rgb.any()


def test_a_thing_can_be_thrown_off_the_table(cameras):
    table = table_of('put-block-in-bowl', 0, cameras)
    pick, _, _ = table.oracle()
    reward, _, info = table.step(pick, pose_at(90.0, 90.0))
    assert info.picked == 'block_0' or info.picked == 'block_1'
    assert reward == 0


def test_bad_poses_and_order_of_calls_are_named(cameras):
    table = Tabletop(make_task('put-block-in-bowl'), 0, cameras)
    with pytest.raises(RuntimeError, match=r'call reset\(\) first'):
        table.observe()
    table.reset()
    with pytest.raises(ValueError, match=r'finite \(4, 4\)'):
        table.step(np.full((4, 4), np.nan), np.eye(4))
    with pytest.raises(ValueError, match=r'finite \(4, 4\)'):
        table.step(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match='not negative'):
        Tabletop(make_task('put-block-in-bowl'), -2, cameras)


def test_an_episode_ends_after_its_steps(cameras):
    table = table_of('put-block-in-bowl', 0, cameras)
    dones = []
    while not table.is_done:
        _, done, info = table.step(pose_at(0.26, -0.49), pose_at(0.5, 0.0))
        dones.append(done)
    # One more than there are blocks, as published.
    assert dones == [False, False, True]
    assert info.steps == 3
    assert not info.is_success


def test_meshes_of_a_folder_are_packed(tmp_path, cameras):
    for index in range(4):
        mesh = star_prism('star', 0.5, 0.1 + 0.1 * index, 0.3)
        lines = [f'v {x} {y} {z}' for x, y, z in mesh.vertices]
        lines += [f'f {a + 1} {b + 1} {c + 1}' for a, b, c in mesh.faces]
        (tmp_path / f'star_{index}.obj').write_text('\n'.join(lines) + '\n')
    (tmp_path / 'unseen.txt').write_text('star_2\nstar_3\n')
    table = table_of('packing-objects-group', 3, cameras, mode='train', object_dir=tmp_path)
    assert {body.label for body in table.truth()} == {'star 0', 'star 1', 'brown box'}
    _, info = play(table)
    assert info.is_success
    unseen = table_of(
        'packing-objects-group', 3, cameras, split='unseen', mode='test', object_dir=tmp_path
    )
    assert {body.label for body in unseen.truth()} == {'star 2', 'star 3', 'brown box'}


def test_a_folder_without_meshes_and_a_broken_mesh_are_named(tmp_path, cameras):
    with pytest.raises(ValueError, match='no meshes'):
        table_of('packing-objects-seq', 0, cameras, object_dir=tmp_path)
    (tmp_path / 'broken.obj').write_text('no mesh at all\n')
    other = tmp_path / 'again'
    other.mkdir()
    (other / 'broken.obj').write_text('no mesh at all\n')
    with pytest.raises(ValueError, match=r'broken\.obj is not a mesh'):
        table_of('packing-objects-seq', 0, cameras, object_dir=other)


def test_it_needs_no_ros():
    code = (
        'import sys; import vlm_nodes.simulation.tabletop, vlm_nodes.cliport.demos; '
        'assert not any(name.split(".")[0] == "rclpy" for name in sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, check=True, timeout=60)
