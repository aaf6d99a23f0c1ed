"""policy_node: `ros2 launch vlm_nodes policy.launch.py checkpoint:=policy.safetensors`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = [ThisLaunchFileDir(), '..', 'config']
ARGUMENTS = {
    'params_file': ('Parameters of policy_node', PathJoinSubstitution([*CONFIG, 'policy.yaml'])),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
}
# Parameters that stay as in params_file unless they are given.
OVERRIDES = {
    'checkpoint': ('File of the trained policy', str),
    'task': ('What to do, in words', str),
    'command_type': ('joint_trajectory, float64_multi_array or joint_state', str),
    'shadow': ('true: command nothing, but show on ~/command what would be sent', bool),
    'rgb_transport': ('raw or compressed', str),
    'tactile_transport': ('raw or compressed', str),
}
TOPICS = {
    'rgb': 'Colour images',
    'depth': 'Depth images',
    'gelsight1': 'Images of the first touch sensor',
    'gelsight2': 'Images of the second touch sensor',
    'joint_states': 'Joint states',
}
# Of each type of command, the topic without remapping.
COMMANDS = ('joint_trajectory', 'commands', 'joint_command')


def start(context: LaunchContext) -> list[Node]:
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind) in OVERRIDES.items()
        if context.launch_configurations[name]
    }
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    remappings = [(topic, LaunchConfiguration(topic)) for topic in TOPICS]
    if command := context.launch_configurations['command']:
        remappings += [(topic, command) for topic in COMMANDS]
    policy = Node(
        package='vlm_nodes',
        executable='policy_node',
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            overrides,
            {'use_sim_time': use_sim_time},
        ],
        remappings=remappings,
    )
    return [policy]


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
    arguments.append(
        DeclareLaunchArgument(
            'command',
            default_value='',
            description='Topic: commands to the robot; empty: joint_trajectory, commands or '
            'joint_command, by command_type',
        )
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
