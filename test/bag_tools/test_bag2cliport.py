from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writing import START_NS, Recorder
from scipy.spatial.transform import Rotation

from bag_tools.action_table import read_actions
from bag_tools.bag2cliport import main
from bag_tools.table_rows import Instant, TableError
from vlm_nodes.cliport.episode import Episode, episode_files
from vlm_nodes.cliport.poses import tool_angle
from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import look_at, quaternion_from_matrix

MS = 1_000_000
TABLE_FRAME = 'base_link'
# What is picked at 1 s is at A before 1.5 s and at B from then on; 4 cm high, 6 cm wide.
A, B, TOP, HALF = (0.4, -0.1), (0.6, 0.15), 0.04, 0.03
RED, GRAY = (200, 30, 30), (90, 90, 90)
EYES = {'front': (0.5, 0.1, 1.0), 'side': (0.5, -0.1, 0.9)}
SIZE, FOCAL = (160, 120), 110.0
# The side camera's depth has an optical frame of its own, 2 cm from its colour's.
SIDE_BASELINE_M = 0.02
BOTH = (
    '--camera', 'front=/front/color/image,/front/depth/image',
    '--camera', 'side=/side/color/image,/side/depth/image',
)  # fmt: skip


def look(eye: tuple[float, ...], at: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Colour and depth of a camera that looks straight down at a box on a table."""
    camera = Camera(*SIZE, FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2)
    rays = camera.rays()
    # The top of the image is +y.
    x, y = (eye[0] + rays[..., 0] * (eye[2] - TOP)), (eye[1] - rays[..., 1] * (eye[2] - TOP))
    box = (abs(x - at[0]) < HALF) & (abs(y - at[1]) < HALF)
    depth = np.where(box, eye[2] - TOP, eye[2]).astype(np.float32)
    return np.where(box[..., None], np.uint8(RED), np.uint8(GRAY)).astype(np.uint8), depth


def tool_at(seconds: float) -> tuple[tuple[float, float, float], np.ndarray]:
    """The tool goes from over A at 1 s to over B at 2 s, z down, and turns by 30 degrees."""
    share = min(1.0, max(0.0, seconds - 1.0))
    x, y = (a + share * (b - a) for a, b in zip(A, B, strict=True))
    turn = Rotation.from_euler('ZX', (30 * share, 180), degrees=True)
    return (x, y, TOP + 0.1), turn.as_quat()


def record(
    path: Path, kind: str = 'mcap', *, tf: bool = True, raised_m: float = 0.0, without: str = ''
) -> Path:
    """4 s of two cameras at 10 Hz and of the tool at 50 Hz."""
    with Recorder(path, kind) as bag:
        static = []
        for name, eye in EYES.items():
            pose = look_at(eye, (*eye[:2], 0.0))
            claimed = pose[:3, 3] + (0, 0, raised_m if name == 'side' else 0.0)
            frame = f'{name}_color'
            turn = quaternion_from_matrix(pose)
            static.append((START_NS, TABLE_FRAME, frame, claimed, turn))
        offset = (SIDE_BASELINE_M, 0, 0)
        static.append((START_NS, 'side_color', 'side_depth', offset, (0, 0, 0, 1)))
        kept = [item for item in static if item[2] != without]
        if tf:
            bag.write('/tf_static', bag.tf(kept), START_NS)
        for tick in range(200):
            stamp = START_NS + tick * 20 * MS
            if tf:
                item = (stamp, TABLE_FRAME, 'tool0', *tool_at(tick * 0.02))
                bag.write('/tf', bag.tf([item]), stamp)
            if tick % 5 == 0:
                write_images(bag, stamp, A if tick < 75 else B)
    return bag.path


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp('recorded') / 'bag')


@pytest.fixture(scope='module')
def bag_without_tf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp('recorded') / 'bag', tf=False)


def write_images(bag: Recorder, stamp: int, at: tuple[float, float]) -> None:
    k = (FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2)
    for name, eye in EYES.items():
        rgb, depth = look(eye, at)
        depth_frame = 'front_color'
        if name == 'side':
            # x of a camera that looks down with +y up in its image is x.
            depth = look((eye[0] + SIDE_BASELINE_M, *eye[1:]), at)[1]
            depth_frame = 'side_depth'
        bag.write(f'/{name}/color/image', bag.image(stamp, f'{name}_color', rgb, 'rgb8'), stamp)
        late = stamp + 3 * MS
        if name == 'front':
            millimetres = np.rint(depth * 1000).astype(np.uint16)
            message = bag.image(late, depth_frame, millimetres, '16UC1')
        else:
            message = bag.image(late, depth_frame, depth, '32FC1')
        bag.write(f'/{name}/depth/image', message, late)
        for stream, frame in (('color', f'{name}_color'), ('depth', depth_frame)):
            info = bag.camera_info(stamp, frame, SIZE, k)
            bag.write(f'/{name}/{stream}/camera_info', info, stamp)


def table(path: Path, *rows: str) -> Path:
    path.write_text('\n'.join(rows) + '\n', encoding='utf-8')
    return path


def moments(path: Path) -> Path:
    """One action, by the moments at which the tool was there."""
    return table(
        path,
        'instruction,time_s,pick_time_s,place_time_s,end_time_s',
        'put the red block to the right,0.5,1.0,2.0,3.0',
    )


def height_around(episode_map: object, xy: tuple[float, float]) -> float:
    heightmap = episode_map
    ((row, col),) = np.floor(heightmap.workspace.pixels([xy])).astype(int)  # type: ignore[attr-defined]
    patch = (slice(row - 4, row + 5), slice(col - 4, col + 5))
    seen = heightmap.seen[patch]  # type: ignore[attr-defined]
    assert seen.any()
    return float(np.median(heightmap.height_m[patch][seen]))  # type: ignore[attr-defined]


@pytest.mark.parametrize('kind', ['ros1', 'mcap', 'sqlite3'])
def test_an_action_by_the_moments_of_the_tool(tmp_path: Path, kind: str) -> None:
    bag = record(tmp_path / 'bag', kind)
    out, pictures = tmp_path / 'sort-blocks', tmp_path / 'pictures'
    arguments = [
        str(bag), str(moments(tmp_path / 'actions.csv')), str(out), *BOTH,
        '--tool-frame', 'tool0', '--tip-m', '0', '0', '0.1', '--pictures', str(pictures),
    ]  # fmt: skip
    assert main(arguments) == 0
    (file,) = episode_files(out)
    assert file.name == 'bag-000.zip'
    episode = Episode.load(file)
    assert (episode.task, episode.mode, episode.seed) == ('sort-blocks', 'train', None)
    assert [camera.name for camera in episode.cameras] == ['front', 'side']
    (step,) = episode.steps
    assert (step.instruction, step.reward) == ('put the red block to the right', 1.0)
    # The tool's z points down: its tip is 10 cm below its frame.
    np.testing.assert_allclose(step.pick[:3, 3], (*A, TOP), atol=1e-6)
    np.testing.assert_allclose(step.place[:3, 3], (*B, TOP), atol=1e-6)
    np.testing.assert_allclose(step.place[:3, 2], (0, 0, 1), atol=1e-6)
    assert tool_angle(step.pick) == pytest.approx(0.0, abs=1e-6)
    assert tool_angle(step.place) == pytest.approx(np.deg2rad(30), abs=1e-6)
    assert height_around(step.heightmap, A) == pytest.approx(TOP, abs=1e-3)
    assert height_around(step.heightmap, B) == pytest.approx(0.0, abs=1e-3)
    assert height_around(episode.final, B) == pytest.approx(TOP, abs=1e-3)
    assert height_around(episode.final, A) == pytest.approx(0.0, abs=1e-3)
    assert cv2.imread(str(pictures / 'bag-000-00.png')) is not None


def test_colors_lie_where_heights_do_though_the_depth_camera_stands_beside(
    tmp_path: Path, bag: Path
) -> None:
    arguments = [
        str(bag), str(moments(tmp_path / 'a.csv')), str(tmp_path / 'out'),
        '--camera', 'side=/side/color/image,/side/depth/image', '--tool-frame', 'tool0',
    ]  # fmt: skip
    assert main(arguments) == 0
    heightmap = Episode.load(episode_files(tmp_path / 'out')[0]).final
    high = heightmap.seen & (heightmap.height_m > TOP / 2)
    red = heightmap.seen & (heightmap.color == RED).all(axis=-1)
    assert high.sum() > 50
    assert (high & red).sum() > 0.85 * (high | red).sum()


def test_poses_of_the_table_make_steps_of_an_episode(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = f'{START_NS // 10**9}.4'
    actions = table(
        tmp_path / 'actions.csv',
        'episode,instruction,stamp,pick_x,pick_y,pick_z,pick_yaw_deg,'
        'place_x,place_y,place_z,place_qx,place_qy,place_qz,place_qw,end_time_s',
        f'sort_1,first,{stamp},0.4,-0.1,0.04,90,0.6,0.15,0.05,1,0,0,0,',
        'sort_1,second,,0.6,0.15,0.04,,0.4,-0.1,0.05,0,0,0,1,3.5',
    )
    with pytest.raises(TableError, match=r'line 3: no stamp or time_s'):
        read_actions(actions)
    actions.write_text(actions.read_text().replace('second,,', f'second,{stamp[:-1]}6,'))
    arguments = [str(bag), str(actions), str(tmp_path / 'out'), *BOTH]
    assert main([*arguments, '--task', 'sort', '--mode', 'test', '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures['episodes'], figures['steps']) == (1, 2)
    assert figures['least_coverage'] > 0.02
    assert figures['greatest_disagreement_m'] < 1e-3
    assert figures['lag_s'] < 0.06
    episode = Episode.load(tmp_path / 'out' / 'sort_1.zip')
    assert (episode.task, episode.mode) == ('sort', 'test')
    assert [step.instruction for step in episode.steps] == ['first', 'second']
    assert [step.reward for step in episode.steps] == [0.5, 0.5]
    assert tool_angle(episode.steps[0].pick) == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(episode.steps[0].place[:3, 3], (0.6, 0.15, 0.05), atol=1e-9)
    np.testing.assert_allclose(episode.steps[0].place[:3, :3], np.eye(3), atol=1e-9)


def calibration(path: Path, **changes: object) -> Path:
    eye = EYES['front']
    pose = look_at(eye, (*eye[:2], 0.0))
    camera = {
        'name': 'front',
        'color_topic': '/front/color/image',
        'depth_topic': '/front/depth/image',
        'width': SIZE[0], 'height': SIZE[1], 'fx': FOCAL, 'fy': FOCAL,
        'cx': SIZE[0] / 2, 'cy': SIZE[1] / 2,
        'table_from_camera': {
            'position_m': list(eye), 'quaternion_xyzw': quaternion_from_matrix(pose).tolist(),
        },
        **changes,
    }  # fmt: skip
    path.write_text(json.dumps({'cameras': [camera]}))
    return path


def given_poses(path: Path) -> Path:
    return table(
        path,
        'instruction,time_s,pick_x,pick_y,pick_z,place_x,place_y,place_z,reward,end_time_s',
        'go,0.5,0.4,-0.1,0.04,0.6,0.15,0.04,0.75,3',
    )


def test_cameras_of_a_file_need_no_tf(tmp_path: Path, bag_without_tf: Path) -> None:
    file = calibration(tmp_path / 'cameras.json')
    arguments = [str(bag_without_tf), str(given_poses(tmp_path / 'a.csv')), str(tmp_path / 'out')]
    assert main([*arguments, '--calibration', str(file)]) == 0
    episode = Episode.load(tmp_path / 'out' / 'bag-000.zip')
    assert episode.steps[0].reward == 0.75
    assert height_around(episode.steps[0].heightmap, A) == pytest.approx(TOP, abs=1e-3)


def test_the_scale_of_a_file_multiplies_depth(tmp_path: Path, bag_without_tf: Path) -> None:
    file = calibration(tmp_path / 'cameras.json', depth_scale=0.9)
    arguments = [str(bag_without_tf), str(given_poses(tmp_path / 'a.csv')), str(tmp_path / 'out')]
    assert main([*arguments, '--calibration', str(file)]) == 0
    final = Episode.load(tmp_path / 'out' / 'bag-000.zip').final
    assert np.median(final.height_m[final.seen]) == pytest.approx(0.1, abs=1e-3)


def test_cameras_that_disagree_are_told_of_and_aligned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, actions = record(tmp_path / 'bag', raised_m=0.03), moments(tmp_path / 'a.csv')
    arguments = [str(bag), str(actions), '--tool-frame', 'tool0', *BOTH]
    assert main([*arguments, str(tmp_path / 'raw')]) == 0
    said = capsys.readouterr().out
    assert 'disagree on heights by 30.' in said
    assert 'try --align' in said
    assert main([*arguments, str(tmp_path / 'aligned'), '--align', 'front', '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['greatest_disagreement_m'] < 0.003
    assert figures['aligned']['side']['residual_m'] < 0.003
    episode = Episode.load(tmp_path / 'aligned' / 'bag-000.zip')
    assert episode.provenance['aligned_to'] == 'front'
    assert episode.cameras[1].table_from_camera[2, 3] == pytest.approx(0.9, abs=0.003)


def test_episodes_that_are_there_stay(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        str(bag), str(moments(tmp_path / 'a.csv')), str(tmp_path / 'out'),
        *BOTH, '--tool-frame', 'tool0',
    ]  # fmt: skip
    assert main(arguments) == 0
    before = (tmp_path / 'out' / 'bag-000.zip').read_bytes()
    assert main(arguments) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert main([*arguments, '--overwrite']) == 0
    assert (tmp_path / 'out' / 'bag-000.zip').read_bytes() == before


HEADER = 'episode,instruction,time_s,pick_x,pick_y,pick_z,place_x,place_y,place_z,end_time_s'


@pytest.mark.parametrize(
    ('row', 'options', 'words'),
    [
        ('a,go,9.5,0.4,0,0,0.5,0,0,3', [], 'camera front has no pair of colour and depth near'),
        ('a,go,0.5,0.9,0,0,0.5,0,0,3', [], r'line 2 of the table: pick: pose at x 0.900'),
        ('a/b,go,0.5,0.4,0,0,0.5,0,0,3', [], 'is to be a file name'),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--align', 'top'], 'none of the cameras: front, side'),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--camera', 'x'], 'is not NAME=COLOR,DEPTH'),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--camera', 'x=/a,/b'], 'has no topic /a'),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--table-frame', 'desk'], "frame 'desk' was never"),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--z-range', '0.5', '0.8'], 'no depth within the work'),
        ('a,go,0.5,0.4,0,0,0.5,0,0,3', ['--x-range', '0.8', '0.3'], 'x_range_m'),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path,
    bag: Path,
    capsys: pytest.CaptureFixture[str],
    row: str,
    options: list[str],
    words: str,
) -> None:
    actions = table(tmp_path / 'a.csv', HEADER, row)
    arguments = [str(bag), str(actions), str(tmp_path / 'out'), *BOTH]
    assert main([*arguments, *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob('out/*'))


def test_moments_without_a_tool_frame_and_cameras_without_tf_are_told(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = moments(tmp_path / 'a.csv')
    assert main([str(bag), str(actions), str(tmp_path / 'out'), *BOTH]) == 2
    assert '--tool-frame' in capsys.readouterr().err
    lost = record(tmp_path / 'lost', without='side_color')
    arguments = [str(lost), str(actions), str(tmp_path / 'out'), *BOTH, '--tool-frame', 'tool0']
    assert main(arguments) == 2
    assert 'camera side is not placed over the table' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'fx': 0}, 'focal length fx'),
        ({'height': 100}, 'its camera_info says'),
        ({'depth_topic': '/nothing'}, 'has no topic /nothing of camera front'),
        ({'focal': 3}, 'unknown focal'),
        ({'depth_scale': -1}, 'depth_scale = -1.0'),
        ({'table_from_camera': {}}, "'quaternion_xyzw'"),
    ],
)
def test_a_bad_calibration_file_is_told(
    tmp_path: Path,
    bag_without_tf: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    words: str,
) -> None:
    file = calibration(tmp_path / 'cameras.json', **changes)
    arguments = [str(bag_without_tf), str(given_poses(tmp_path / 'a.csv')), str(tmp_path / 'out')]
    assert main([*arguments, '--calibration', str(file)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ('rows', 'words'),
    [
        (['sentence,time_s', 'go,1'], "unknown columns \\['sentence'\\]"),
        (['time_s', '1'], "no column 'instruction'"),
        (['instruction,time_s'], 'holds no action'),
        ([HEADER, 'a,,1,1,1,1,1,1,1,2'], 'line 2: the instruction is empty'),
        ([HEADER, 'a,go,one,1,1,1,1,1,1,2'], "time_s = 'one' is no number"),
        ([HEADER, 'a,go,1,1,nan,1,1,1,1,2'], "pick_y = 'nan' is no number"),
        ([HEADER, 'a,go,1,1,1,1,1,1,,2'], 'no place_z'),
        ([HEADER, 'a,go,1,1,1,1,1,1,1,'], 'needs end_stamp or end_time_s'),
        (
            [HEADER, *(f'{e},go,1,1,1,1,1,1,1,2' for e in 'aba')],
            "line 4: episode 'a' goes on after another",
        ),
        (['instruction,stamp,time_s', 'go,1,2'], 'both stamp and time_s'),
        ([HEADER + ',pick_stamp', 'a,go,1,1,1,1,1,1,1,2,5'], 'both pick_x, pick_y, pick_z and'),
    ],
)
def test_a_bad_table_is_told_by_line_and_column(
    tmp_path: Path, rows: list[str], words: str
) -> None:
    with pytest.raises(TableError, match=words):
        read_actions(table(tmp_path / 'a.csv', *rows))


def test_stamps_keep_their_nanoseconds(tmp_path: Path) -> None:
    file = table(
        tmp_path / 'a.csv',
        'instruction,stamp,pick_stamp,place_stamp,end_stamp',
        'go,1700000000.123456789,1700000001,1700000002.5,1700000003',
    )
    ((action,),) = read_actions(file)
    assert action.seen == Instant(1_700_000_000_123_456_789)
    assert action.seen.stamp_ns(5) == 1_700_000_000_123_456_789
    assert Instant(7, from_start=True).stamp_ns(5) == 12


def test_two_real_cameras_over_a_tote(
    tmp_path: Path, vlm_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies in a tote is taken out: the first look is of the full one, the last of the empty.

    The calibration that comes with the recordings is off by 8 cm and 14 % of depth.
    """
    folder = vlm_data / 'tote_rgbd'
    if not folder.is_dir():
        pytest.skip(f'no recording at {folder}')
    cameras = []
    with Recorder(tmp_path / 'bag', 'mcap') as recorder:
        for number in (0, 1):
            k, pose = (
                np.loadtxt(folder / f'camera-{number}.{name}.txt')
                for name in ('intrinsics', 'pose')
            )
            cameras.append(
                {
                    'name': f'camera-{number}',
                    'color_topic': f'/camera_{number}/color',
                    'depth_topic': f'/camera_{number}/depth',
                    'width': 640, 'height': 480,
                    'fx': k[0, 0], 'fy': k[1, 1], 'cx': k[0, 2], 'cy': k[1, 2],
                    'table_from_camera': {
                        'position_m': pose[:3, 3].tolist(),
                        'quaternion_xyzw': quaternion_from_matrix(pose).tolist(),
                    },
                }
            )  # fmt: skip
            for second, kind in enumerate(('input', 'background')):
                stamp = START_NS + second * 1000 * MS
                rgb = cv2.imread(str(folder / f'{kind}-{number}.color.png'))[..., ::-1]
                depth = cv2.imread(str(folder / f'{kind}-{number}.depth.png'), -1) / 10000
                for stream, image, encoding in (
                    ('color', np.ascontiguousarray(rgb), 'rgb8'),
                    ('depth', depth.astype(np.float32), '32FC1'),
                ):
                    message = recorder.image(stamp, f'camera_{number}', image, encoding)
                    recorder.write(f'/camera_{number}/{stream}', message, stamp)
    (tmp_path / 'cameras.json').write_text(json.dumps({'cameras': cameras}))
    x, y, z = np.loadtxt(folder / 'bin-position.txt')
    row = f'take out the whisk,0,{x - 0.02},{y + 0.08},{z + 0.06},{x},{y},{z},1'
    header = 'instruction,time_s,pick_x,pick_y,pick_z,place_x,place_y,place_z,end_time_s'
    ranges = (('--x-range', x, 0.3), ('--y-range', y, 0.2), ('--z-range', z + 0.11, 0.19))
    arguments = [
        str(tmp_path / 'bag'), str(table(tmp_path / 'a.csv', header, row)), str(tmp_path / 'out'),
        '--calibration', str(tmp_path / 'cameras.json'), '--pixel-m', '0.002', '--json',
        '--pictures', str(tmp_path / 'pictures'),
        *(text for name, c, half in ranges for text in (name, f'{c - half}', f'{c + half}')),
    ]  # fmt: skip
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)['greatest_disagreement_m'] > 0.05
    aligned = [*arguments, '--overwrite', '--align', 'camera-1', '--scale-depth']
    assert main(aligned) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['greatest_disagreement_m'] < 0.01
    assert figures['least_coverage'] > 0.7
    episode = Episode.load(tmp_path / 'out' / 'bag-000.zip')
    taken_out = episode.steps[0].heightmap.height_m - episode.final.height_m
    both = episode.steps[0].heightmap.seen & episode.final.seen
    # Most of the floor stayed as it was, and the whisk's handle is gone.
    assert np.median(np.abs(taken_out[both])) < 0.005
    assert ((taken_out > 0.012) & both).sum() > 300
