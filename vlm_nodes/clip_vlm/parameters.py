"""Parameters of `caption_node`, with what `ros2 param describe` says of each."""

from __future__ import annotations

from typing import Final

from vlm_nodes.live.camera_sets import SET_PARAMETERS
from vlm_nodes.node import Parameter

MOST_TOKENS: Final = 4096

PARAMETERS: Final = (
    # Model
    Parameter(
        'checkpoint',
        '',
        'Folder that train_clip_vlm --save wrote in lm mode. Has no default: name one.',
    ),
    Parameter('base', '', 'Folder of its Qwen; empty: where it was in training.'),
    Parameter('clip_model', '', 'Its CLIP, or the folder that it is in; empty: as in training.'),
    Parameter('clip_pretrained', '', "CLIP's weights: a tag or a file; empty: as in training."),
    Parameter('weights_dir', '', 'Folder that fetch_weights wrote to; empty: ~/.cache/vlm_nodes.'),
    Parameter('device', 'cpu', 'cpu, cuda or cuda:1.'),
    Parameter(
        'dtype',
        'auto',
        'Of Qwen; auto: fp32 on the CPU, bf16 elsewhere.',
        choices=('auto', 'fp32', 'bf16'),
    ),
    Parameter(
        'quant',
        'none',
        'How Qwen is quantised; needs a GPU and bitsandbytes.',
        choices=('none', 'bnb-8bit', 'bnb-4bit'),
    ),
    Parameter(
        'torch_threads',
        1,
        'CPU threads of the model. More than idle cores makes it many times slower.',
        low=1,
        high=256,
    ),
    # Cameras
    Parameter(
        'cameras',
        [''],
        "Those of the checkpoint's cameras that there are, each with its topic under NAME/; "
        'empty: all of them.',
    ),
    *SET_PARAMETERS,
    Parameter(
        'need_all_cameras',
        False,
        'Say nothing where a picture is missing; otherwise do without it and name it.',
    ),
    Parameter(
        'max_age_s',
        2.0,
        'How long before a request its pictures may have come, in seconds. 0: only such that come '
        'after it. Negative: any.',
        low=-1.0,
        high=3600.0,
    ),
    Parameter(
        'image_timeout_s',
        5.0,
        'How long a request waits for pictures that are new enough, in seconds.',
        low=0.0,
        high=3600.0,
    ),
    # Text
    Parameter(
        'prompt',
        '',
        'What is asked where the request does not say; empty: as in training.',
        changeable=True,
    ),
    Parameter(
        'rate',
        0.5,
        'Captions a second without being asked, if the model is quick enough; 0: only on demand.',
        low=0.0,
        high=100.0,
    ),
    Parameter(
        'max_new_tokens',
        128,
        'Most tokens of a text where the request does not say.',
        low=1,
        high=MOST_TOKENS,
        changeable=True,
    ),
    Parameter(
        'longest_s',
        60.0,
        'A text that takes longer is ended where it is, in seconds.',
        low=0.01,
        high=3600.0,
    ),
)
