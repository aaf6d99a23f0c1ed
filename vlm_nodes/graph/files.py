from __future__ import annotations

from pathlib import Path

PACKAGE = 'vlm_nodes'


def config_file(name: str) -> Path | None:
    """A file of `config/`: of the checkout that this runs from, else of the installed package."""
    folders = [Path(__file__).resolve().parents[2] / 'config']
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.append(Path(get_package_share_directory(PACKAGE)) / 'config')
    except (ImportError, LookupError, OSError):
        pass
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
