import sys
from pathlib import Path
from typing import ClassVar

import setuptools
from setuptools import Command, find_packages, setup

PACKAGE = 'vlm_nodes'
SHARED = f'share/{PACKAGE}'


def folder(name: str) -> list[str]:
    """Files of a data folder, by the relative paths that --symlink-install needs."""
    return sorted(str(path) for path in Path(name).iterdir() if path.is_file())


class Develop(Command):
    """`develop` with the options of `colcon build --symlink-install`, which setuptools 80 dropped.

    colcon runs it where the sources are linked to, with `sys.prefix` at the install space, and puts
    that folder on PYTHONPATH itself: the package's metadata and its executables are what is left.
    """

    user_options: ClassVar = [
        ('editable', None, 'leave the sources where they are'),
        ('build-directory=', None, 'not used'),
        ('script-dir=', None, 'where executables go; $base is the install space'),
        ('no-deps', None, 'dependencies are never installed'),
        ('uninstall', None, 'do nothing: what is installed next replaces it'),
    ]
    boolean_options: ClassVar = ['editable', 'no-deps', 'uninstall']

    def initialize_options(self) -> None:
        self.editable = self.no_deps = self.uninstall = False
        self.build_directory = None
        self.script_dir = ''

    def finalize_options(self) -> None:
        if not self.editable:
            raise SystemExit('develop is there for colcon alone; use: pip install -e .')

    def run(self) -> None:
        if self.uninstall:
            return
        self.run_command('egg_info')
        scripts = self.distribution.get_command_obj('install_scripts')
        scripts.install_dir = self.script_dir.replace('$base', sys.prefix)
        self.run_command('install_scripts')


setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=['vlm_nodes', 'vlm_nodes.*', 'bag_tools', 'bag_tools.*']),
    package_data={
        'bag_tools': ['py.typed'],
        'vlm_nodes': ['py.typed'],
        'vlm_nodes.clip': ['models/*'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARED, ['package.xml']),
        (f'{SHARED}/launch', folder('launch')),
        (f'{SHARED}/config', folder('config')),
        (f'{SHARED}/config/rviz', folder('config/rviz')),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={'test': ['pytest', 'pytest-timeout', 'hypothesis']},
    zip_safe=False,
    cmdclass={'develop': Develop} if int(setuptools.__version__.split('.')[0]) >= 80 else {},
    maintainer='vlm_nodes maintainers',
    maintainer_email='maintainers@vlm-nodes.example',
    description='Robots that see, touch and are spoken to.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'arm_expert_node = vlm_nodes.executables:arm_expert_node',
            'bag2captions = bag_tools.bag2captions:main',
            'bag2cliport = bag_tools.bag2cliport:main',
            'bag2vlmaps = bag_tools.bag2vlmaps:main',
            'bag_info = bag_tools.bag_info:main',
            'caption_node = vlm_nodes.executables:caption_node',
            'check_dataset = vlm_nodes.mapping.check_dataset:main',
            'create_map = vlm_nodes.mapping.create_map:main',
            'cliport_demos = vlm_nodes.cliport.demos:main',
            'cliport_eval = vlm_nodes.cliport.evaluate:main',
            'cliport_node = vlm_nodes.executables:cliport_node',
            'cliport_show = vlm_nodes.cliport.show:main',
            'cliport_train = vlm_nodes.cliport.train:main',
            'demo = vlm_nodes.demo.demo:main',
            'evaluate_clip_vlm = vlm_nodes.clip_vlm.evaluate:main',
            'evaluate_langocc = vlm_nodes.langocc.evaluate:main',
            'evaluate_sarnn = vlm_nodes.sarnn.evaluate:main',
            'export_overlap_dataset = bag_tools.export_overlap_dataset:main',
            'extract_rays = vlm_nodes.langocc.extract:main',
            'fetch_weights = vlm_nodes.clip.fetch:main',
            'generate_clip_vlm = vlm_nodes.clip_vlm.generate:main',
            'index_map = vlm_nodes.mapping.index_map:main',
            'make_label_images = vlm_nodes.simulation.label_data:main',
            'make_dataset = bag_tools.make_dataset:main',
            'make_street = vlm_nodes.simulation.street.command:main',
            'mapping_node = vlm_nodes.executables:mapping_node',
            'npz2bag = bag_tools.npz2bag:main',
            'occupancy_node = vlm_nodes.executables:occupancy_node',
            'playback_node = vlm_nodes.executables:playback_node',
            'policy_node = vlm_nodes.executables:policy_node',
            'record_arm = vlm_nodes.simulation.arm.record_arm:main',
            'rosbag2npz = bag_tools.rosbag2npz:main',
            'sim_arm_node = vlm_nodes.executables:sim_arm_node',
            'sim_node = vlm_nodes.executables:sim_node',
            'sim_street_node = vlm_nodes.executables:sim_street_node',
            'sim_table_node = vlm_nodes.executables:sim_table_node',
            'street_labels = vlm_nodes.langocc.street_labels:main',
            'surround_player_node = vlm_nodes.executables:surround_player_node',
            'table_player_node = vlm_nodes.executables:table_player_node',
            'train_clip_vlm = vlm_nodes.clip_vlm.train:main',
            'train_clip_reducer = vlm_nodes.langocc.train_reducer:main',
            'train_clip_sarnn = vlm_nodes.sarnn.train:main',
            'train_clip = vlm_nodes.clip.train:main',
            'train_langocc = vlm_nodes.langocc.train:main',
        ],
    },
)
