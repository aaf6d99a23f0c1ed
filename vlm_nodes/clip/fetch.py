"""Fetches the weights of an open_clip tag once, for encoders that then run without a network.

ros2 run vlm_nodes fetch_weights --model ViT-B-16 --pretrained openai --to DIR
"""

import argparse
import logging
import tempfile
from pathlib import Path

from safetensors.torch import save

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.backend import open_clip
from vlm_nodes.clip.weights import (
    ModelSource,
    WeightsError,
    default_weights_dir,
    load_model,
    sha256,
    weights_file_name,
)

_LOGGER = logging.getLogger(__name__)


def fetch(model: str, tag: str, folder: Path) -> Path:
    """Download weights, check that they fill the model, and keep them as safetensors.

    Args:
        model: open_clip model name.
        tag: one of its tags.
        folder: made where it is missing.

    Returns:
        The file; nothing is fetched where it exists already.

    Raises:
        WeightsError: no such tag, no network, or weights that do not fit.
    """
    target = folder / weights_file_name(model, tag)
    if target.is_file():
        return target
    settings = open_clip.get_pretrained_cfg(model, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(model)
        if not tags:
            raise WeightsError(f'{model!r} is no open_clip model with weights, such as ViT-B-16')
        raise WeightsError(f'{model} has no weights tagged {tag!r}; its tags are {tags}')
    with tempfile.TemporaryDirectory() as cache:
        try:
            downloaded = Path(open_clip.download_pretrained(settings, cache_dir=cache))
        except Exception as error:  # whatever the network and its clients raise
            raise WeightsError(f'cannot fetch {tag} of {model}: {error}') from error
        keep(ModelSource(model, open_clip.get_model_config(model), downloaded, {}), target)
    return target


def keep(source: ModelSource, target: Path) -> None:
    """Write a model's weights as one safetensors file, after loading them strictly.

    Raises:
        WeightsError: they do not fit the model.
    """
    state = load_model(source).state_dict()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, save({key: value.contiguous() for key, value in state.items()}))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `fetch_weights`."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    parser = argparse.ArgumentParser(prog='fetch_weights', description=__doc__)
    parser.add_argument('--model', required=True, help='open_clip model name, such as ViT-B-16')
    parser.add_argument('--pretrained', required=True, help='its tag, such as openai')
    parser.add_argument('--to', type=Path, default=default_weights_dir(), help='folder to put them')
    options = parser.parse_args(arguments)
    try:
        path = fetch(options.model, options.pretrained, options.to)
    except (WeightsError, OSError) as error:
        parser.error(str(error))
    _LOGGER.info('%s (sha256 %s)', path, sha256(path))


if __name__ == '__main__':
    main()
