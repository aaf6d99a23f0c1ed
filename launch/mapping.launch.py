"""mapping_node on a camera's topics: `ros2 launch vlm_nodes mapping.launch.py rgb:=/camera/rgb`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': ('Parameters of mapping_node', PathJoinSubstitution([*CONFIG, 'mapping.yaml'])),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
    'rviz': ('Whether to open RViz', 'false'),
    'rviz_config': ('What RViz shows', PathJoinSubstitution([*CONFIG, 'rviz', 'mapping.rviz'])),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'model': 'Encoder: tiny, an open_clip model such as ViT-B-16, or none',
    'pretrained': 'open_clip tag or weights file of the encoder',
    'weights_dir': 'Folder that fetch_weights wrote to',
    'map_file': 'Where the map is saved and loaded when a call names no path',
    'map_frame': 'Frame of the map',
}
TOPICS = {
    'rgb': 'Colour images',
    'depth': 'Depth images',
    'camera_info': 'Camera info of the colour images',
    'depth_camera_info': 'Camera info of the depth images, where depth is not registered',
}


def start(context: LaunchContext) -> list[Node]:
    given = {name: context.launch_configurations[name] for name in OVERRIDES}
    overrides = {
        name: ParameterValue(value, value_type=str) for name, value in given.items() if value
    }
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    sim_time = {'use_sim_time': use_sim_time}
    mapping = Node(
        package='vlm_nodes',
        executable='mapping_node',
        output='screen',
        parameters=[LaunchConfiguration('params_file'), overrides, sim_time],
        remappings=[(topic, LaunchConfiguration(topic)) for topic in TOPICS],
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', LaunchConfiguration('rviz_config')],
        parameters=[sim_time],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return [mapping, rviz]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (description, default) in ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value='', description=f'{description}; empty: as in params_file'
        )
        for name, description in OVERRIDES.items()
    ]
    arguments += [
        DeclareLaunchArgument(topic, default_value=topic, description=f'Topic: {description}')
        for topic, description in TOPICS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
