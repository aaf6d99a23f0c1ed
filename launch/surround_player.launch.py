"""A drive on topics: `ros2 launch vlm_nodes surround_player.launch.py data:=/data/nuscenes`.

Without `data`, simulated streets.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

# Of both players; those that are not given stay as the node has them.
SHARED = {
    'cameras': 'Names, such as CAM_FRONT,CAM_BACK',
    'rate_hz': 'Moments a second of real time',
    'image_topic': 'Pictures are on NAME/image_topic',
    'info_topic': 'Intrinsics are on NAME/info_topic',
    'transport': 'raw, compressed or both',
    'map_frame': 'Frame that the vehicle moves in',
    'base_frame': "The vehicle's frame",
    'clock': 'true: keep recorded stamps and publish /clock',
}
RECORDED = {
    'version': "The tables' folder",
    'scenes': 'Names of drives, such as scene-0061,scene-0103',
    'require_files': 'true: leave keyframes with missing pictures out',
    'max_samples': 'Play the first so many keyframes',
    'loop': 'true: begin anew at the end',
}
SIMULATED = {
    'seed': 'The first street',
    'streets': 'How many streets; 0: no end',
    'keyframes': 'Of a drive',
    'width': 'Of pictures in pixels',
    'height': 'Of pictures in pixels',
}
LISTS = ('cameras', 'scenes')
KINDS = {
    'rate_hz': float, 'clock': bool, 'require_files': bool, 'max_samples': int, 'loop': bool,
    'seed': int, 'streets': int, 'keyframes': int, 'width': int, 'height': int,
}  # fmt: skip


def start(context: LaunchContext) -> list[Node]:
    given = {name: value for name, value in context.launch_configurations.items() if value}
    data = given.get('data', '')
    parameters = {
        name: given[name].replace(' ', '').split(',')
        if name in LISTS
        else ParameterValue(LaunchConfiguration(name), value_type=KINDS.get(name, str))
        for name in (*SHARED, *(RECORDED if data else SIMULATED))
        if name in given
    }
    if data:
        parameters['data'] = ParameterValue(LaunchConfiguration('data'), value_type=str)
    return [
        Node(
            package='vlm_nodes',
            executable='surround_player_node' if data else 'sim_street_node',
            output='screen',
            parameters=[parameters],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(
            'data',
            default_value='',
            description="Folder in nuScenes' layout, or a keyframe's .json; empty: made-up streets",
        )
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value='', description=f'{description}; empty: as the node has it'
        )
        for name, description in (SHARED | RECORDED | SIMULATED).items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
