"""The simulated arm: `ros2 launch vlm_nodes sim_arm.launch.py expert:=true`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': (
        'Parameters of sim_arm_node',
        PathJoinSubstitution([*CONFIG, 'sim_arm.yaml']),
    ),
    'expert': ('Whether the scripted expert does the tasks', 'false'),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'seed': ('Scene', int),
    'task': ('Task in words', str),
    'realtime_factor': ('Simulated seconds a second', float),
    'wait_for_command_s': ('Longest real time that a tick waits for its joint command', float),
}


def start(context: LaunchContext) -> list[Node]:
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind) in OVERRIDES.items()
        if context.launch_configurations[name]
    }
    arm = Node(
        package='vlm_nodes',
        executable='sim_arm_node',
        output='screen',
        parameters=[LaunchConfiguration('params_file'), overrides],
    )
    expert = Node(
        package='vlm_nodes',
        executable='arm_expert_node',
        output='screen',
        condition=IfCondition(LaunchConfiguration('expert')),
    )
    return [arm, expert]


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
