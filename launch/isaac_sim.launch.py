"""mapping_node on the default topics of the Isaac Sim ROS 2 bridge, on simulated time."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

# What the bridge's camera, camera info and transform tree nodes publish unless told otherwise.
ARGUMENTS = {
    'use_sim_time': ('Whether time comes from /clock', 'true'),
    'map_frame': ("Frame of the map; the bridge's transform tree begins at world", 'world'),
    'rgb': ('Topic: Colour images', '/rgb'),
    'depth': ('Topic: Depth images', '/depth'),
    'camera_info': ('Topic: Camera info of both', '/camera_info'),
}


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (description, default) in ARGUMENTS.items()
    ]
    mapping = IncludeLaunchDescription(
        PathJoinSubstitution([ThisLaunchFileDir(), 'mapping.launch.py']),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in ARGUMENTS],
    )
    return LaunchDescription([*arguments, mapping])
