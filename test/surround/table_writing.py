"""nuScenes tables by hand: two scenes, a few cameras, poses that a test can say in words."""

import json

import cv2
import numpy as np

SIZE = (32, 18)
INTRINSIC = [[20.0, 0.0, 15.5], [0.0, 20.0, 8.5], [0.0, 0.0, 1.0]]
CHANNELS = ('CAM_FRONT', 'CAM_BACK', 'LIDAR_TOP', 'RADAR_FRONT')


def drive_tables(samples=(5, 3)):
    """Tables of scenes with so many samples each; rows may be changed before they are written."""
    tables = {name: [] for name in ('scene', 'sample', 'sample_data', 'ego_pose')}
    tables['sensor'] = [{'token': f's-{c}', 'channel': c, 'modality': 'x'} for c in CHANNELS]
    tables['calibrated_sensor'] = [
        {
            'token': f'c-{channel}',
            'sensor_token': f's-{channel}',
            'translation': [place + 0.5, 0.0, 1.5],
            # The optical axes of a camera that looks forward.
            'rotation': [0.5, -0.5, 0.5, -0.5],
            'camera_intrinsic': INTRINSIC if channel.startswith('CAM') else [],
        }
        for place, channel in enumerate(CHANNELS)
    ]
    for scene, count in enumerate(samples):
        tables['scene'].append({'token': f'scene{scene}', 'name': f'scene-{scene:04d}'})
        for number in range(count):
            _add_sample(tables, scene, number)
    # Nothing promises that rows come in time order.
    tables['sample'].reverse()
    return tables


def _add_sample(tables, scene, number):
    token, stamp = f'sample{scene}-{number}', 1_000_000 * scene + 500_000 * number
    tables['sample'].append({'token': token, 'timestamp': stamp, 'scene_token': f'scene{scene}'})
    for channel in CHANNELS:
        late = 20_000 if channel == 'CAM_BACK' else 0
        for is_key in (True, False):
            end = 'bin' if channel == 'LIDAR_TOP' else 'png'
            folder = 'samples' if is_key else 'sweeps'
            pose = f'{token}-{channel}-{is_key}'
            tables['sample_data'].append(
                {
                    'token': f'd-{pose}',
                    'sample_token': token,
                    'ego_pose_token': pose,
                    'calibrated_sensor_token': f'c-{channel}',
                    'timestamp': stamp + late,
                    'filename': f'{folder}/{channel}/{token}.{end}',
                    'is_key_frame': is_key,
                    'width': SIZE[0],
                    'height': SIZE[1],
                }
            )
            # Ten metres a second along x, after a quarter turn to the left.
            x = 100.0 * scene + (stamp + late) * 1e-5
            half = np.sqrt(0.5)
            tables['ego_pose'].append(
                {'token': pose, 'translation': [x, 7.0, 0.0], 'rotation': [half, 0.0, 0.0, half]}
            )


def write_tables(root, tables, version='v1.0-made', files=True):
    """Writes tables and, if asked for, the files that their keyframes name."""
    folder = root / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f'{name}.json').write_text(json.dumps(rows, indent=0))
    for row in tables['sample_data'] if files else ():
        if row['is_key_frame'] and '\\' not in row['filename']:
            path = root / row['filename']
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == '.png':
                cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), (0, 0, 200), np.uint8))
            else:
                np.arange(20, dtype=np.float32).tofile(path)
    return root
