from pathlib import Path

import pytest
import yaml

from bag_tools.settings import (
    ClockSettings,
    SettingsError,
    StreamSettings,
    default_settings,
    load_settings,
    settings_from,
)

CONFIG = Path(__file__).parents[2] / 'config' / 'rosbag2npz.yaml'
JOINTS = {'topics': ['/joint_states'], 'kind': 'joints'}


def test_the_shipped_configuration_is_the_default() -> None:
    assert load_settings(CONFIG) == default_settings()


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'stream': {}}, 'unknown key stream: did you mean streams?'),
        ({'streams': {'a': {**JOINTS, 'tolerence_s': 1}}}, 'did you mean tolerance_s?'),
        ({'streams': {'a': JOINTS}, 'clock': {'rate': 3}}, 'clock.rate: did you mean rate_hz?'),
        ({'streams': {'a': {'topics': ['/x']}}}, 'streams.a.kind is missing'),
        ({'streams': {'a': {**JOINTS, 'kind': 'joint'}}}, "kind = 'joint' must be one of"),
        ({'streams': {'a': {**JOINTS, 'tolerance_s': 'x'}}}, 'must be of type float'),
        ({'streams': {'a': {**JOINTS, 'tolerance_s': -1}}}, 'tolerance_s = -1'),
        ({'streams': {'a': {**JOINTS, 'crop': [0, 0, 1, 1]}}}, 'crop fit images'),
        ({'streams': {'stamps': JOINTS}}, "'stamps' is what another output is called"),
        ({'streams': {'a': JOINTS}, 'clock': {'reference': 'b'}}, "clock.reference = 'b'"),
        ({'streams': {'a': JOINTS}, 'clock': {}}, 'one of rate_hz and reference'),
        ({'streams': {'a': JOINTS}, 'actions': {'command': 'aa'}}, 'did you mean a?'),
        ({'streams': {'a': JOINTS}, 'distro': 'jade'}, "distro = 'jade' must be one of"),
        (['streams'], 'must be a table'),
        ({'streams': {}}, 'at least one stream'),
    ],
)
def test_bad_configurations_are_named(content: object, words: str, tmp_path: Path) -> None:
    if isinstance(content, dict) and 'clock' not in content:
        content = {**content, 'clock': {'rate_hz': 10}}
    file = tmp_path / 'bad.yaml'
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_images_are_never_blended() -> None:
    with pytest.raises(SettingsError, match='ghosts'):
        StreamSettings(('/a',), 'color', policy='linear')


def test_spans_follow_the_clock() -> None:
    assert ClockSettings(rate_hz=10).chosen_span == 'common'
    assert ClockSettings(reference='color').chosen_span == 'all'


def test_digests_tell_settings_apart() -> None:
    one = settings_from({'streams': {'a': JOINTS}, 'clock': {'rate_hz': 10}})
    other = settings_from({'streams': {'a': JOINTS}, 'clock': {'rate_hz': 11}})
    assert one.digest() != other.digest()
    assert (
        one.digest() == settings_from({'streams': {'a': JOINTS}, 'clock': {'rate_hz': 10}}).digest()
    )


def test_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / 'bad.yaml'
    file.write_text('a: [')
    with pytest.raises(SettingsError, match='is no YAML'):
        load_settings(file)
    with pytest.raises(SettingsError, match='cannot be read'):
        load_settings(tmp_path / 'absent.yaml')
