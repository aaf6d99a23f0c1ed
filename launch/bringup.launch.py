"""One robot: `ros2 launch vlm_nodes bringup.launch.py rooms:=mapping,cliport params_file:=my.yaml`.

Starts the nodes of the rooms that are named, all with one parameter file, in which each has a
section of its own: `config/robot.yaml` is one to begin from.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

ROOMS = ('mapping', 'policy', 'cliport', 'langocc', 'clip_vlm')
# Of the one camera that some rooms see through, by the names that their launch files have.
TOPICS = {
    'rgb': ('Colour images of the camera of mapping and policy', ('mapping', 'policy')),
    'depth': ('Depth images of the same', ('mapping', 'policy')),
    'camera_info': ('Camera info of the same', ('mapping',)),
}
ARGUMENTS = {
    'rooms': (f'What to start, of {",".join(ROOMS)}', 'mapping'),
    'params_file': (
        'Parameters of all nodes',
        PathJoinSubstitution([ThisLaunchFileDir(), '..', 'config', 'robot.yaml']),
    ),
    'use_sim_time': ('Whether time comes from /clock', 'false'),
}


def start(context: LaunchContext) -> list[GroupAction]:
    rooms = [name.strip() for name in context.launch_configurations['rooms'].split(',')]
    if strangers := [name for name in rooms if name not in ROOMS]:
        raise RuntimeError(f'rooms: no {", ".join(strangers)}; there are {", ".join(ROOMS)}')
    return [_room(name) for name in dict.fromkeys(rooms)]


def _room(name: str) -> GroupAction:
    passed = ['params_file', 'use_sim_time']
    passed += [topic for topic, (_, rooms) in TOPICS.items() if name in rooms]
    file = PathJoinSubstitution([ThisLaunchFileDir(), f'{name}.launch.py'])
    arguments = [(argument, LaunchConfiguration(argument)) for argument in passed]
    # In a group, so that what one room declares does not reach into the next.
    return GroupAction([IncludeLaunchDescription(file, launch_arguments=arguments)])


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (description, default) in ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=name, description=f'Topic: {description}')
        for name, (description, _) in TOPICS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
