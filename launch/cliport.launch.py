"""cliport_node: `ros2 launch vlm_nodes cliport.launch.py checkpoint:=FOLDER cameras:=a,b`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': (
        'Parameters of cliport_node',
        PathJoinSubstitution([*CONFIG, 'cliport.yaml']),
    ),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
    'cameras': ('Names of the cameras, such as front,left; empty: as in params_file', ''),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'checkpoint': ('Folder of the trained model', str),
    'table_frame': ('Frame of the workspace and of answers', str),
    'rgb_transport': ('raw or compressed', str),
    'depth_transport': ('raw or compressedDepth', str),
}
# Of an only camera without a name; others have theirs under NAME/.
TOPICS = {
    'rgb': 'Colour images',
    'depth': 'Depth images',
    'camera_info': 'Intrinsics of both',
}


def start(context: LaunchContext) -> list[Node]:
    given = {name: context.launch_configurations[name] for name in OVERRIDES}
    overrides = {
        name: ParameterValue(value, value_type=OVERRIDES[name][1])
        for name, value in given.items()
        if value
    }
    if cameras := context.launch_configurations['cameras']:
        overrides['cameras'] = [name.strip() for name in cameras.split(',')]
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    cliport = Node(
        package='vlm_nodes',
        executable='cliport_node',
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            overrides,
            {'use_sim_time': use_sim_time},
        ],
        remappings=[(topic, LaunchConfiguration(topic)) for topic in TOPICS],
    )
    return [cliport]


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
    arguments += [
        DeclareLaunchArgument(topic, default_value=topic, description=f'Topic: {description}')
        for topic, description in TOPICS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
