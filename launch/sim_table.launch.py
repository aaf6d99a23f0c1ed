"""The simulated table: `ros2 launch vlm_nodes sim_table.launch.py checkpoint:=FOLDER episodes:=10`.

Without a checkpoint only the table: three cameras, and `~/execute` that moves its gripper.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
CAMERAS = ['front', 'left', 'right']
ARGUMENTS = {
    'params_file': (
        'Parameters of sim_table_node',
        PathJoinSubstitution([*CONFIG, 'sim_table.yaml']),
    ),
    'cliport_params_file': (
        'Parameters of cliport_node',
        PathJoinSubstitution([*CONFIG, 'cliport.yaml']),
    ),
    'checkpoint': ('Folder of a trained model, which then plans; empty: nobody plans', ''),
    'episodes': ('Episodes to play with what it plans; 0: none', '0'),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'task': ('Task, with its split or without', str),
    'split': ('seen, unseen or full', str),
    'mode': ('train, val or test', str),
    'seed': ('Table', int),
}


def start(context: LaunchContext) -> list[Node]:
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind) in OVERRIDES.items()
        if context.launch_configurations[name]
    }
    nodes = [
        Node(
            package='vlm_nodes',
            executable='sim_table_node',
            output='screen',
            parameters=[LaunchConfiguration('params_file'), overrides],
        )
    ]
    checkpoint = context.launch_configurations['checkpoint']
    if checkpoint:
        live = {
            'checkpoint': ParameterValue(checkpoint, value_type=str),
            'cameras': CAMERAS,
            'use_sim_time': True,
        }
        nodes.append(
            Node(
                package='vlm_nodes',
                executable='cliport_node',
                output='screen',
                parameters=[LaunchConfiguration('cliport_params_file'), live],
            )
        )
    episodes = int(context.launch_configurations['episodes'])
    if episodes:
        nodes.append(
            Node(
                package='vlm_nodes',
                executable='table_player_node',
                output='screen',
                parameters=[{'episodes': episodes}],
            )
        )
    return nodes


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
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
