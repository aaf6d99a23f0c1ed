"""A simulated room and mapping_node on its camera: `ros2 launch vlm_nodes demo.launch.py`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    seed = ParameterValue(LaunchConfiguration('seed'), value_type=int)
    return LaunchDescription(
        [
            DeclareLaunchArgument('seed', default_value='1000000', description='Which room'),
            Node(package='vlm_nodes', executable='sim_node', parameters=[{'seed': seed}]),
            IncludeLaunchDescription(
                PathJoinSubstitution([ThisLaunchFileDir(), 'mapping.launch.py']),
                launch_arguments={'use_sim_time': 'true'}.items(),
            ),
        ]
    )
