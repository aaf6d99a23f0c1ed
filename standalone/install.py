"""Put the stand-ins for ROS packages without a wheel into this Python's site-packages.

Only those whose real package cannot be imported are linked: where ROS is, nothing happens.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

STAND_INS = ('cv_bridge', 'message_filters', 'sensor_msgs_py', 'tf2_py', 'tf2_ros')


def main() -> None:
    """Link every stand-in that is needed and say which."""
    here = Path(__file__).resolve().parent
    site_packages = Path(sysconfig.get_path('purelib'))
    # A script's own folder comes first on the path, and here it holds the stand-ins themselves.
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != here]
    for name in STAND_INS:
        link = site_packages / name
        if link.is_symlink():
            link.unlink()
            importlib.invalidate_caches()
        if importlib.util.find_spec(name) is None:
            link.symlink_to(here / name, target_is_directory=True)
            print(f'{name}: stand-in')
        else:
            print(f'{name}: real package, left alone')


if __name__ == '__main__':
    main()
