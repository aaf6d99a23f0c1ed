"""Make sure that MuJoCo renders off-screen here; as root, install the Debian packages it needs."""

from __future__ import annotations

import os
import subprocess
import sys

PACKAGES = ('libegl1', 'libgl1-mesa-dri')
PROBE = 'import mujoco; context = mujoco.GLContext(16, 16); context.make_current()'


def renders() -> bool:
    """Whether an off-screen OpenGL context can be made, tried in a process of its own."""
    environment = {**os.environ, 'MUJOCO_GL': os.environ.get('MUJOCO_GL', 'egl')}
    probe = subprocess.run([sys.executable, '-c', PROBE], env=environment, capture_output=True)
    return probe.returncode == 0


def main() -> int:
    """Return 0 where rendering works, now or after the packages were installed."""
    if renders():
        return 0
    install = ['apt-get', 'install', '-y', '--no-install-recommends', *PACKAGES]
    if os.geteuid() == 0:
        subprocess.run(['apt-get', 'update', '-q'], check=False)
        if subprocess.run(install, check=False).returncode == 0 and renders():
            return 0
    print(
        f'off-screen rendering does not start. It needs: sudo {" ".join(install)}', file=sys.stderr
    )
    return 1


if __name__ == '__main__':
    sys.exit(main())
