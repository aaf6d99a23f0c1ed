"""Parameters of `mapping_node`, with what `ros2 param describe` says of each."""

from __future__ import annotations

from vlm_nodes.node import Parameter

PARAMETERS = (
    # Input
    Parameter('map_frame', 'map', 'Frame of the map and of all answers.'),
    Parameter(
        'cameras',
        [''],
        'Names of several cameras, each with its topics under NAME/. Empty: one camera, whose '
        'topics are rgb, depth, camera_info and depth_camera_info.',
    ),
    Parameter(
        'rgb_transport',
        'raw',
        'raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage on rgb/compressed.',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'depth_transport',
        'raw',
        'raw: sensor_msgs/Image. compressedDepth: CompressedImage on depth/compressedDepth.',
        choices=('raw', 'compressedDepth'),
    ),
    Parameter(
        'depth_registered',
        True,
        'Whether depth pixels and colour pixels are the same rays. If not, depth_camera_info is '
        'needed, and points are moved into the colour camera through tf.',
    ),
    Parameter(
        'sensor_reliability',
        'best_effort',
        'best_effort hears every publisher; reliable loses no image of publishers that are.',
        choices=('best_effort', 'reliable'),
    ),
    Parameter(
        'sync_slop_s',
        0.02,
        'How far apart the stamps of colour and depth may be, in seconds.',
        low=1e-6,
        high=10.0,
    ),
    Parameter('sync_queue', 10, 'Images that may wait for their partner.', low=1, high=1000),
    Parameter(
        'frames_waiting',
        1,
        'Pairs of a camera that may wait to be fused. 1: only the newest, for a live robot. More: '
        'fewer are dropped, for playing recordings.',
        low=1,
        high=1000,
    ),
    Parameter(
        'tf_timeout_s',
        0.2,
        "How long to wait for the transform at an image's stamp, in seconds.",
        low=0.0,
        high=10.0,
    ),
    Parameter('tf_cache_s', 10.0, 'How long transforms are kept, in seconds.', 1.0, 600.0),
    Parameter(
        'keyframe_translation_m',
        0.0,
        'Fuse once the camera moved this far, in metres. With all three keyframe parameters 0: '
        'every pair.',
        low=0.0,
        high=100.0,
    ),
    Parameter('keyframe_rotation_deg', 0.0, 'Or turned this far, in degrees.', low=0.0, high=180.0),
    Parameter(
        'keyframe_interval_s',
        0.0,
        'Or once this much time passed, in seconds.',
        low=0.0,
        high=3600.0,
    ),
    # Encoder
    Parameter(
        'model',
        'tiny',
        'tiny (knows simulated rooms only), an open_clip model such as ViT-B-16, or none for a map '
        'of geometry and colour.',
    ),
    Parameter('pretrained', '', 'open_clip tag or weights file; empty: beside the model.'),
    Parameter('weights_dir', '', 'Folder that fetch_weights wrote to; empty: ~/.cache/vlm_nodes.'),
    Parameter(
        'dense_method',
        'naclip',
        'How patch features are had from a vision transformer.',
        choices=('naclip', 'maskclip', 'sc_clip'),
    ),
    Parameter('device', 'cpu', 'cpu, cuda or cuda:1.'),
    Parameter('precision', 'fp32', 'fp32, or autocast.', choices=('fp32', 'fp16', 'bf16')),
    Parameter(
        'image_size',
        0,
        "Shorter side in pixels at which images are encoded; 0: the model's own choice.",
        low=0,
        high=4096,
    ),
    Parameter(
        'torch_threads',
        1,
        'CPU threads of the encoder. More than idle cores makes it many times slower.',
        low=1,
        high=256,
    ),
    # Map
    Parameter('voxel_size_m', 0.05, 'Edge of a voxel in metres.', low=0.005, high=1.0),
    Parameter(
        'feature_dim',
        128,
        'Numbers kept of each feature; 0 keeps all the encoder gives.',
        low=0,
        high=4096,
    ),
    Parameter('min_depth_m', 0.1, 'Nearer depth is not used, in metres.', low=0.01, high=10.0),
    Parameter('max_depth_m', 6.0, 'Farther depth is not fused, in metres.', low=0.1, high=100.0),
    Parameter(
        'clear_after',
        5,
        'Frames that must see through a voxel before it is forgotten; 0 never forgets.',
        low=0,
        high=255,
    ),
    Parameter('threads', 0, 'Threads for fusion and queries; 0: one a core, 4 at most.', 0, 256),
    # Answers
    Parameter('max_matches', 10, 'Matches of a query that names no number.', low=1, high=1000),
    Parameter('min_score', 0.5, 'Least score of a query that names none.', low=0.0, high=1.0),
    Parameter(
        'publish_period_s',
        2.0,
        'How often cloud and occupancy go out while somebody listens, in seconds.',
        low=0.1,
        high=3600.0,
    ),
    Parameter(
        'occupancy_min_z_m', 0.1, 'Lower end of the heights that are obstacles.', -100.0, 100.0
    ),
    Parameter(
        'occupancy_max_z_m', 1.5, 'Upper end of the heights that are obstacles.', -100.0, 100.0
    ),
    Parameter('obstacle_names', [''], 'Things that are obstacles at any height, such as table.'),
    Parameter('free_names', [''], 'Things that are no obstacles, such as rug.'),
    # Files
    Parameter('map_file', '', 'Where the map is saved and loaded when a call names no path.'),
    Parameter('load_at_start', False, 'Load map_file at start.'),
    Parameter(
        'autosave_period_s', 0.0, 'Save to map_file this often, in seconds; 0: never.', 0.0, 86400.0
    ),
)
