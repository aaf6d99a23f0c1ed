"""Data sets with captions as users have them: made up, small, and wrong where a test wants it."""

import json

import cv2
import numpy as np

FRONT, BACK = 'CAM_FRONT', 'CAM_BACK'


def write_picture(path, colour=(200, 40, 30), size=(32, 18)):
    """A picture of one colour, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), colour[::-1], np.uint8))
    return path


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def picture_name(token, camera):
    return f'samples/{camera}/{token}__{camera}.jpg'


def record(token, *, cameras=(FRONT, BACK), field='gemini_caption', caption=None, **others):
    """A record of NuInteract; other values replace or add fields."""
    if caption is None:
        caption = {
            'CAM_FRONT': f'{token} front camera.',
            'CAM_BACK': f'{token} back camera.',
            'FRONT': f'{token} front.',
            'BACK': f'{token} back.',
        }
    return {
        'token': token,
        'prev': '',
        'next': '',
        'frame_idx': 0,
        'scene_token': 'scene',
        'cam_path': {camera: picture_name(token, camera) for camera in cameras},
        'gpt_prompt': 'Describe the scene.',
        field: caption,
        **others,
    }


def write_nuinteract(folder, *files):
    """A folder of NuInteract, a file for each list of records; text is written as it is."""
    for number, rows in enumerate(files):
        path = folder / f'{number:032x}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


def write_overlap(folder, samples, cameras=(FRONT, BACK), pictures=True):
    """An export of (token, caption) pairs, or of rows as they are to stand in the manifest."""
    rows = []
    for sample in samples:
        if isinstance(sample, dict):
            rows.append(sample)
            continue
        token, caption = sample
        images = {camera: f'images/{token}/{camera}.jpg' for camera in cameras}
        rows.append({'token': token, 'images': images, 'caption': caption})
        for name in images.values() if pictures else ():
            write_picture(folder / name)
    write_json(folder / 'manifest.json', {'cameras': list(cameras), 'samples': rows})
    return folder
