"""Bags as files: found in folders, named for their outputs, and known by their digests."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bag_tools.reader import BAG_FILE_SUFFIXES, BagError

# What `ros2 bag record --custom-data task='...'` notes.
TASK_KEY = 'task'
COMPRESSED_SUFFIXES = ('.mcap.zstd', '.db3.zstd')
_BLOCK_BYTES = 1 << 18


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The bags that paths name, in order, each once: bags themselves, or folders of bags.

    A folder is a bag of rosbag2's where it holds metadata.yaml, or storage files named after it;
    other folders are searched to any depth.

    Raises:
        BagError: A path is absent, or holds no bag.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise BagError(f'there is no bag at {path}')
        bags = _bags_in(path) if path.is_dir() else [path]
        if not bags:
            raise BagError(f'{path} holds no bag: no .bag, .mcap or .db3')
        for bag in bags:
            found.setdefault(bag.resolve(), bag)
    return list(found.values())


def is_bag_folder(folder: Path) -> bool:
    """Whether a folder is one rosbag2 bag, finished or not."""
    if (folder / 'metadata.yaml').is_file():
        return True
    name = folder.resolve().name
    named = (file.name.startswith((f'{name}_', f'{name}.')) for file in _bag_files(folder))
    return any(named) or any(file.name.endswith(COMPRESSED_SUFFIXES) for file in folder.iterdir())


def _bag_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in BAG_FILE_SUFFIXES)


def _bags_in(folder: Path) -> list[Path]:
    if is_bag_folder(folder):
        return [folder]
    bags = _bag_files(folder)
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.')):
        bags.extend(_bags_in(inner))
    return bags


def output_names(bags: Sequence[Path]) -> list[str]:
    """A name for each bag's outputs: its own, with those of its folders where bags share one."""
    names = [bag.resolve().stem if bag.is_file() else bag.resolve().name for bag in bags]
    parents = [list(bag.resolve().parents) for bag in bags]
    depth = 0
    while len(set(names)) < len(names):
        counts = Counter(names)
        if depth >= max(len(folders) for folders in parents):
            # Files of one folder that differ in their suffix alone.
            return [
                f'{name}_{bag.suffix.lstrip(".")}' if counts[name] > 1 else name
                for name, bag in zip(names, bags, strict=True)
            ]
        names = [
            f'{folders[depth].name}__{name}'
            if counts[name] > 1 and depth < len(folders) and folders[depth].name
            else name
            for name, folders in zip(names, parents, strict=True)
        ]
        depth += 1
    return names


def files_of(bag: Path) -> list[Path]:
    """The files that a bag's messages lie in."""
    if bag.is_file():
        return [bag, *(p for p in (bag.with_name(bag.name + '-wal'),) if p.is_file())]
    return [p for p in sorted(bag.iterdir()) if p.is_file()]


def custom_data(bag: Path) -> dict[str, str]:
    """What was noted at the recording: `ros2 bag record --custom-data KEY=VALUE ...`.

    Empty where metadata.yaml is absent or broken: saying so is the reader's business.
    """
    try:
        text = (bag / 'metadata.yaml').read_text(encoding='utf-8')
        values: Any = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    for key in ('rosbag2_bagfile_information', 'custom_data'):
        values = values.get(key) if isinstance(values, dict) else None
    return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}


def recorded_task(bag: Path) -> str | None:
    """What was noted at the recording as its task, in words; None where nothing was."""
    return custom_data(bag).get(TASK_KEY, '').strip() or None


def bag_digest(bag: Path) -> dict[str, Any]:
    """The SHA-256 of a bag, as `sha256sum` gives it.

    Returns:
        `sha256`: of the one storage file, or, of several, of the lines that `sha256sum *` prints
        in the bag's folder; `files`: that of each file; `fingerprint`: see `fingerprint`.
    """
    digests = {file.name: _file_digest(file) for file in files_of(bag)}
    storage = [name for name in digests if name != 'metadata.yaml']
    whole = digests[storage[0]] if len(storage) == 1 else _lines_digest(digests)
    return {'sha256': whole, 'files': digests, 'fingerprint': fingerprint(bag)}


def _lines_digest(digests: dict[str, str]) -> str:
    lines = ''.join(f'{digest}  {name}\n' for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_digest(file: Path) -> str:
    digest = hashlib.sha256()
    # A block that stays in the processor's cache between the reading and the digest.
    block = memoryview(bytearray(_BLOCK_BYTES))
    with file.open('rb', buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def fingerprint(bag: Path) -> list[list[Any]]:
    """Name, size and time of change of a bag's files: tells a changed bag without reading it."""
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files_of(bag)]
