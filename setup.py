from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'vlm_nodes'
SHARED = f'share/{PACKAGE}'


def folder(name: str) -> list[str]:
    """Files of a data folder, by the relative paths that --symlink-install needs."""
    return sorted(str(path) for path in Path(name).iterdir() if path.is_file())


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
    maintainer='vlm_nodes maintainers',
    maintainer_email='maintainers@vlm-nodes.example',
    description='Robots that see, touch and are spoken to.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'bag2vlmaps = bag_tools.bag2vlmaps:main',
            'bag_info = bag_tools.bag_info:main',
            'check_dataset = vlm_nodes.mapping.check_dataset:main',
            'create_map = vlm_nodes.mapping.create_map:main',
            'demo = vlm_nodes.demo.demo:main',
            'fetch_weights = vlm_nodes.clip.fetch:main',
            'index_map = vlm_nodes.mapping.index_map:main',
            'make_label_images = vlm_nodes.simulation.label_data:main',
            'make_dataset = bag_tools.make_dataset:main',
            'mapping_node = vlm_nodes.executables:mapping_node',
            'npz2bag = bag_tools.npz2bag:main',
            'playback_node = vlm_nodes.executables:playback_node',
            'rosbag2npz = bag_tools.rosbag2npz:main',
            'sim_node = vlm_nodes.executables:sim_node',
            'train_clip = vlm_nodes.clip.train:main',
        ],
    },
)
