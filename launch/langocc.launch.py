"""occupancy_node: `ros2 launch vlm_nodes langocc.launch.py checkpoint:=FOLDER`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': (
        'Parameters of occupancy_node',
        PathJoinSubstitution([*CONFIG, 'langocc.yaml']),
    ),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
    'namespace': ('Where CAM_FRONT/image_raw and the others are, such as /car; empty: here', ''),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'checkpoint': 'Folder that train_langocc wrote',
    'device': 'cpu, cuda or cuda:1',
    'cameras': 'Names of those that there are, such as CAM_FRONT,CAM_BACK',
    'image_topic': 'Pictures are on NAME/image_topic',
    'info_topic': 'Intrinsics are on NAME/info_topic',
    'image_transport': 'raw or compressed',
    'base_frame': "The vehicle's frame",
    'fixed_frame': 'Frame that does not move, such as odom',
}


def start(context: LaunchContext) -> list[Node]:
    given = context.launch_configurations
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=str)
        for name in OVERRIDES
        if given[name] and name != 'cameras'
    }
    if cameras := given['cameras']:
        overrides['cameras'] = [name.strip() for name in cameras.split(',')]
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    occupancy = Node(
        package='vlm_nodes',
        executable='occupancy_node',
        namespace=given['namespace'],
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            overrides,
            {'use_sim_time': use_sim_time},
        ],
    )
    return [occupancy]


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
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
