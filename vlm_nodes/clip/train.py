"""Adapts a CLIP model to a domain, from pictures with semantic label images.

    ros2 run vlm_nodes train_clip DATA --val VAL --model ViT-B-16 --pretrained openai --out adapted

Writes `OUT/open_clip_config.json` and `OUT/open_clip_model.safetensors`, open_clip's own format:
use it as `Encoder.load('OUT')`, or in open_clip as `local-dir:OUT`. Training state and a log of the
losses and validation figures lie in `OUT/training`; `--resume` goes on from there.
"""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.utils.data import DataLoader

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.adaptation import (
    NEGATIVES,
    Adaptation,
    AdaptationConfig,
    TrainingPictures,
    ValidationPictures,
    forget_unused_words,
)
from vlm_nodes.clip.augment import Augmentation
from vlm_nodes.clip.caption_levels import CaptionLevels
from vlm_nodes.clip.label_images import LabelImageError, LabelImages
from vlm_nodes.clip.text import tokenize_captions
from vlm_nodes.clip.text_warm_up import spread_captions
from vlm_nodes.clip.training_backend import PRECISIONS, lightning
from vlm_nodes.clip.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    ModelSource,
    WeightsError,
    build_model,
    find_config,
    find_model,
    load_model,
    make_tokenizer,
)

_LOGGER = logging.getLogger(__name__)


class ExportWeights(lightning.Callback):  # type: ignore[misc]
    """Writes the model in open_clip's format after every validation; listed before the averaging.

    The averaging callback has its weights in the model during validation and takes them out after
    this callback.
    """

    def __init__(self, folder: Path, source: ModelSource, half: bool) -> None:
        """Where to write, what configuration, and whether in half precision."""
        self._folder, self._source, self._half = folder, source, half

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write, on the first process only."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            export(pl_module.model, self._source, self._folder, half=self._half)


def export(model: torch.nn.Module, source: ModelSource, folder: Path, *, half: bool) -> None:
    """Write a model as open_clip loads it: configuration and safetensors, each all or nothing.

    Args:
        model: open_clip model.
        source: its configuration and preprocessing.
        folder: made where it is missing.
        half: float16 instead of float32.
    """
    dtype = torch.float16 if half else torch.float32
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    config = {'model_cfg': source.config, 'preprocess_cfg': source.preprocess}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_NAME, save(state))
    write_whole(folder / CONFIG_NAME, (json.dumps(config, indent=2) + '\n').encode())


def train(options: argparse.Namespace) -> None:
    """Run a training as described by the command line.

    Raises:
        LabelImageError: the data set is incomplete.
        WeightsError: the model to start from is missing.
        ValueError: an option is out of its range.
    """
    last = options.out / 'training' / 'last.ckpt'
    if not options.resume and last.parent.exists():
        raise ValueError(
            f'{last.parent} exists already: go on with --resume, or choose another --out'
        )
    if options.resume and not last.is_file():
        raise ValueError(f'there is nothing to resume: no file {last}')
    lightning.seed_everything(options.seed, workers=True)
    torch.set_num_threads(options.threads)
    images = LabelImages.open(options.data)
    counts = images.pixel_counts()
    held_out = LabelImages.open(options.val)
    if held_out.labels != images.labels:
        raise LabelImageError(f'{options.val} and {options.data} differ in labels.json')
    config = AdaptationConfig(
        method=options.method,
        learning_rate=options.lr,
        train_text=options.train_text,
        rank_negatives=not options.labels_only,
        size=options.size,
        augmentation=Augmentation(recolour=options.recolour),
    )
    source, model = starting_point(options)
    model = model.to(memory_format=torch.channels_last)
    tokenize = make_tokenizer(source.config)
    if options.scratch:
        trained = [images.labels[number] for number in counts]
        texts = CaptionLevels.of(trained, NEGATIVES).texts
        forget_unused_words(model, tokenize, list(texts))
        cosine = spread_captions(model, tokenize_captions(tokenize, texts), texts)
        _LOGGER.info('captions lie at the sums of their words, mean cosine %.3f', cosine)
    module = Adaptation(
        model,
        tokenize,
        config,
        images.labels,
        counts,
        source.preprocess,
    )
    _LOGGER.info('%d pictures, %d labels; %s', len(images), len(counts), asdict(config))
    trainer = _trainer(options, source)
    trainer.fit(
        module,
        _loader(TrainingPictures(images, config), options, shuffle=True),
        _loader(ValidationPictures(held_out, config.size), options, shuffle=False),
        ckpt_path=last if options.resume else None,
    )
    if trainer.is_global_zero:
        export(module.model, source, options.out, half=options.half)


def starting_point(options: argparse.Namespace) -> tuple[ModelSource, Any]:
    """The model to train: untrained with `--scratch`, else with its weights."""
    if options.scratch:
        source = find_config(options.model)
        return source, build_model(source.config)
    source = find_model(options.model, options.pretrained, options.weights_dir)
    return source, load_model(source).train()


def _loader(data: Any, options: argparse.Namespace, *, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=options.batch,
        shuffle=shuffle,
        drop_last=shuffle and len(data) >= options.batch,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )


def _trainer(options: argparse.Namespace, source: ModelSource) -> lightning.Trainer:
    training = options.out / 'training'
    callbacks: list[Any] = [
        ExportWeights(options.out, source, options.half),
        lightning.callbacks.TQDMProgressBar(refresh_rate=options.refresh),
        lightning.callbacks.ModelCheckpoint(training, save_last='link'),
    ]
    if options.ema > 0:
        callbacks.insert(1, lightning.callbacks.EMAWeightAveraging(decay=options.ema))
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        precision=PRECISIONS[options.precision],
        max_epochs=options.epochs,
        check_val_every_n_epoch=options.val_every,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=[
            lightning.loggers.CSVLogger(training, name='csv'),
            lightning.loggers.TensorBoardLogger(training, name='tensorboard'),
        ],
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line of `train_clip`."""
    parser = argparse.ArgumentParser(prog='train_clip', description=(__doc__ or '').split('\n')[0])
    add = parser.add_argument
    add('data', type=Path, help='folder with images/, labels/ and labels.json')
    add('--val', type=Path, required=True, help='folder of the same kind, for validation')
    add('--out', type=Path, required=True, help='folder to write')
    add('--model', default='tiny', help='tiny, an open_clip model name, a folder or NAME.json')
    add('--pretrained', help='open_clip tag or weights file to start from')
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--scratch', action='store_true', help='start from an untrained model')
    add('--train-text', action='store_true', help='train the text tower too')
    add('--labels-only', action='store_true', help='labels against each other, without negatives')
    add('--recolour', type=float, default=0.0, help='share of pictures with hues turned at random')
    add('--method', default='naclip', help='dense method of transformers (default: naclip)')
    add('--epochs', type=int, default=10)
    add('--batch', type=int, default=32)
    add(
        '--lr', type=float, default=2e-3, help='peak learning rate (default: 2e-3; 1e-5 suits CLIP)'
    )
    add('--size', type=int, default=128, help='side of training pictures in pixels (default: 128)')
    add('--precision', choices=sorted(PRECISIONS), default='fp32')
    add('--ema', type=float, default=0.999, help='weight averaging; 0 for none (default: 0.999)')
    add('--half', action='store_true', help='write float16 weights')
    add('--val-every', type=int, default=1, help='epochs between validations')
    add('--threads', type=int, default=torch.get_num_threads(), help='CPU threads of torch')
    add('--workers', type=int, default=2, help='processes that read pictures')
    add('--accelerator', default='auto', help='cpu, gpu or auto')
    add('--devices', default='auto', help='how many, or auto; several train together (DDP)')
    add('--seed', type=int, default=0)
    add('--refresh', type=int, default=10, help='steps between updates of the progress bar')
    add('--resume', action='store_true', help='go on from OUT/training/last.ckpt')
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `train_clip`."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        train(options)
    except (LabelImageError, WeightsError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
