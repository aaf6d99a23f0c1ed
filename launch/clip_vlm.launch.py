"""caption_node: `ros2 launch vlm_nodes clip_vlm.launch.py checkpoint:=FOLDER`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': (
        'Parameters of caption_node',
        PathJoinSubstitution([*CONFIG, 'clip_vlm.yaml']),
    ),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
    'namespace': ('Where CAM_FRONT/image_raw and the others are, such as /car; empty: here', ''),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'checkpoint': ('Folder that train_clip_vlm --save wrote', str),
    'base': ('Folder of its Qwen', str),
    'device': ('cpu, cuda or cuda:1', str),
    'quant': ('none, bnb-8bit or bnb-4bit', str),
    'image_topic': ('Pictures are on NAME/image_topic', str),
    'image_transport': ('raw or compressed', str),
    'prompt': ('What is asked', str),
    'rate': ('Captions a second without being asked; 0: only on demand', float),
    'max_new_tokens': ('Most tokens of a text', int),
}
CAMERAS = (
    'Names of the cameras that there are, such as CAM_FRONT,CAM_BACK; empty: as in params_file'
)


def start(context: LaunchContext) -> list[Node]:
    given = context.launch_configurations
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind) in OVERRIDES.items()
        if given[name]
    }
    if cameras := given['cameras']:
        overrides['cameras'] = [name.strip() for name in cameras.split(',')]
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    caption = Node(
        package='vlm_nodes',
        executable='caption_node',
        namespace=given['namespace'],
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            overrides,
            {'use_sim_time': use_sim_time},
        ],
    )
    return [caption]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (description, default) in ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value='', description=f'{description}; empty: as in params_file'
        )
        for name, (description, _) in OVERRIDES.items()
    ]
    arguments.append(DeclareLaunchArgument('cameras', default_value='', description=CAMERAS))
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
