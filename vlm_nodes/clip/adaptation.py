"""Adapting a CLIP model to a domain: the Lightning module and its data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from vlm_nodes.clip.augment import Augmentation, Picture, fit, move, recolour, relight, tile
from vlm_nodes.clip.caption_levels import LAST_WORDS, CaptionLevels
from vlm_nodes.clip.confusion import count_pairs, intersection_over_union, mean_iou
from vlm_nodes.clip.dense import dense_features
from vlm_nodes.clip.label_images import LabelImages
from vlm_nodes.clip.losses import cell_labels, label_loss, ranking_loss
from vlm_nodes.clip.text import Tokenizer, embed_captions, embed_one_each, tokenize_captions
from vlm_nodes.clip.training_backend import lightning

NEGATIVES = ('object', 'thing', 'stuff', 'background')

MAXIMUM_LOGIT_SCALE = 100.0
"""CLIP's own bound on its temperature."""

LEAST_WEIGHT, MOST_WEIGHT = 0.5, 3.0
"""Bounds of a label's weight: what fills most of all pictures must still be told from the rest."""

KEEP_ONE_CELL_OF = 2
"""Cells drawn for the loss of a step: neighbours are alike, and comparing all costs time."""


@dataclass(frozen=True)
class AdaptationConfig:
    """How to train.

    Attributes:
        method: dense method of transformers; it is the one to use the model with afterwards.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: AdamW's, on weights of two and more dimensions.
        warm_up: share of the steps in which the rate rises.
        train_text: whether the text tower learns too; False keeps CLIP's text space, as LSeg does.
        rank_negatives: whether 'object', 'thing' and so on come between right and wrong texts.
            Untrained trunks learn faster without at first.
        size: side in pixels of training pictures.
        augmentation: changes to them.
    """

    method: str = 'naclip'
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.05
    train_text: bool = False
    rank_negatives: bool = True
    size: int = 128
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: a value is out of its range; the message holds it.
        """
        if not 0 < self.learning_rate < 1:
            raise ValueError(f'learning_rate must be between 0 and 1, got {self.learning_rate}')
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f'weight_decay must be at least 0, below 1, got {self.weight_decay}')
        if not 0 <= self.warm_up < 1:
            raise ValueError(f'warm_up must be a share of the steps, got {self.warm_up}')
        if self.size < 32 or self.size % 32:
            raise ValueError(f'size must be a multiple of 32 pixels, got {self.size}')


class TrainingPictures(Dataset[tuple[Tensor, Tensor, bool]]):
    """Augmented pictures of a data set."""

    def __init__(self, images: LabelImages, config: AdaptationConfig) -> None:
        """Pictures come out at the configured size."""
        self._images = images
        self._config = config

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, bool]:
        """(3, S, S) uint8, (S, S) int32 label ids, and whether it was recoloured.

        Draws from torch's generator.
        """
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        settings, size = self._config.augmentation, self._config.size
        if rng.random() < settings.mosaic:
            others = rng.integers(len(self._images), size=3).tolist()
            half = (size // 2, size // 2)
            rgb, labels = tile(
                [move(self._images.read(i), half, settings, rng) for i in (index, *others)]
            )
        else:
            rgb, labels = move(self._images.read(index), (size, size), settings, rng)
        recoloured = bool(rng.random() < settings.recolour)
        if recoloured:
            rgb = recolour(rgb, rng)
        return *_tensors((relight(rgb, settings, rng), labels)), recoloured


class ValidationPictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures of a data set, resized only."""

    def __init__(self, images: LabelImages, size: int) -> None:
        """Pictures come out as squares of this side."""
        self._images = images
        self._size = size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(3, S, S) uint8 and (S, S) int32 label ids."""
        return _tensors(fit(self._images.read(index), (self._size, self._size)))


def _tensors(picture: Picture) -> tuple[Tensor, Tensor]:
    rgb, labels = picture
    planes = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)
    return planes, torch.from_numpy(labels.astype(np.int32))


class Adaptation(lightning.LightningModule):  # type: ignore[misc]
    """Pulls patch features to the text embeddings of their labels, against the other labels."""

    def __init__(
        self,
        model: Any,
        tokenize: Tokenizer,
        config: AdaptationConfig,
        labels: dict[int, str],
        pixel_counts: dict[int, int],
        normalisation: dict[str, tuple[float, ...]],
    ) -> None:
        """Set up texts and weights.

        Args:
            model: open_clip model to train.
            tokenize: its tokenizer.
            config: how to train.
            labels: id -> text of all labels, also of those that only validation shows.
            pixel_counts: id -> pixels of the labels that occur in training; only their texts are
                trained with.
            normalisation: `mean` and `std` of RGB.
        """
        super().__init__()
        self.model = model
        self._config = config
        trained = {number: text for number, text in labels.items() if pixel_counts.get(number)}
        self._captions = CaptionLevels.of(list(trained.values()), NEGATIVES)
        self._labels, self._trained = labels, trained
        self._targets = [_level_targets(level.of_label, trained) for level in self._captions.levels]
        self._label_weights = _label_weights(pixel_counts)
        self._tokens = tokenize_captions(tokenize, self._captions.texts)
        self._label_tokens = tokenize_captions(tokenize, list(labels.values()))
        self._mean, self._std = (
            torch.tensor(normalisation[key]).reshape(1, 3, 1, 1) for key in ('mean', 'std')
        )
        self._counts = np.zeros((0, 0), dtype=np.int64)
        model.requires_grad_(True)
        if not config.train_text:
            freeze_text(model)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _index: int) -> Tensor:
        """Ranking losses of all levels, added up."""
        images, labels, recoloured = batch
        features = self._features(images)
        cells = cell_labels(labels.long(), (features.shape[1], features.shape[2]))
        true_hue = ~recoloured.repeat_interleave(len(cells) // len(images))
        some = torch.randperm(len(cells), device=self.device)[: len(cells) // KEEP_ONE_CELL_OF]
        cells = cells[some]
        scale = self.model.logit_scale.exp().clamp(max=MAXIMUM_LOGIT_SCALE)
        texts = scale * embed_one_each(self.model, self._tokens.to(self.device))
        logits = (features.flatten(0, 2)[some] @ texts.T).float()
        negatives = logits[:, -self._captions.negatives :]
        weights = self._label_weights.to(self.device)[cells]
        loss = torch.zeros((), device=self.device)
        for number, (level, targets) in enumerate(
            zip(self._captions.levels, self._targets, strict=True)
        ):
            pixels = targets.to(self.device)[cells]
            columns = torch.from_numpy(level.columns).to(self.device)
            counted = weights * (pixels >= 0)
            if number != LAST_WORDS:
                counted = counted * true_hue[some, None]
            if self._config.rank_negatives:
                loss = loss + ranking_loss(logits[:, columns], negatives, pixels, counted)
            else:
                loss = loss + label_loss(logits[:, columns], pixels, counted)
        self.log('loss', loss, prog_bar=True)
        self.log('logit_scale', scale.detach(), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Embed every label once."""
        size = len(self._labels)
        self._counts = np.zeros((size, size), dtype=np.int64)
        with torch.no_grad():
            self._texts = embed_captions(self.model, self._label_tokens.to(self.device))

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Argmax over all labels against the most frequent label of every cell."""
        images, labels = batch
        features = self._features(images)
        predicted = (features.flatten(0, 2) @ self._texts.T).argmax(1)
        cells = cell_labels(labels.long(), (features.shape[1], features.shape[2]))
        self._counts += _counts_of(cells.cpu().numpy(), predicted.cpu().numpy(), self._labels)

    def on_validation_epoch_end(self) -> None:
        """Log mean IoU over all labels, those trained on, and those that were not."""
        total = self.trainer.strategy.reduce(torch.from_numpy(self._counts), reduce_op='sum')
        iou = intersection_over_union(total.cpu().numpy())
        numbers = list(self._labels)
        seen = [i for i, number in enumerate(numbers) if number in self._trained]
        unseen = [i for i, number in enumerate(numbers) if number not in self._trained]
        everything = list(range(len(numbers)))
        for name, rows in (('', everything), ('_seen', seen), ('_unseen', unseen)):
            self.log(f'val_miou{name}', mean_iou(iou, rows), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, decay on matrices only, one cycle of the learning rate over all steps."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {'params': [p for p in parameters if p.ndim >= 2]},
            {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0},
        ]
        rate, decay = self._config.learning_rate, self._config.weight_decay
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self._config.warm_up,
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    def _features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> unit patch features (B, h, w, D)."""
        scaled = (images.float() / 255 - self._mean.to(self.device)) / self._std.to(self.device)
        planes = scaled.contiguous(memory_format=torch.channels_last)
        return functional.normalize(
            dense_features(self.model.visual, planes, self._config.method).float(), dim=-1
        )


def text_modules(model: Any) -> list[Any]:
    """The parts of an open_clip model that only texts go through, parameters and modules."""
    if hasattr(model, 'text'):
        return [model.text]
    names = (
        'transformer',
        'token_embedding',
        'positional_embedding',
        'ln_final',
        'text_projection',
    )
    return [getattr(model, name) for name in names if getattr(model, name) is not None]


def freeze_text(model: Any) -> None:
    """Keep the text space as it is."""
    for part in text_modules(model):
        part.requires_grad_(False)


def forget_unused_words(
    model: Any, tokenize: Callable[[list[str]], Tensor], texts: list[str]
) -> None:
    """Zero the token embeddings that training never touches, so that unknown words stay neutral.

    Args:
        model: untrained open_clip model.
        tokenize: its tokenizer.
        texts: what training will use, inside every prompt.
    """
    used = torch.unique(tokenize_captions(tokenize, texts))
    embedding = model.text.token_embedding if hasattr(model, 'text') else model.token_embedding
    with torch.no_grad():
        kept = embedding.weight[used].clone()
        embedding.weight.zero_()
        embedding.weight[used] = kept


def _level_targets(of_label: NDArray[np.int64], trained: dict[int, str]) -> Tensor:
    """Label id -> text index of a level, -1 for none; (65536,)."""
    table = torch.full((1 << 16,), -1, dtype=torch.long)
    table[list(trained)] = torch.from_numpy(of_label)
    return table


def _label_weights(pixel_counts: dict[int, int]) -> Tensor:
    """Label id -> weight of its pixels, (65536,): rare labels count more, by the square root."""
    middle = float(np.median(list(pixel_counts.values())))
    weights = torch.zeros(1 << 16)
    for number, count in pixel_counts.items():
        weights[number] = min(max((middle / count) ** 0.5, LEAST_WEIGHT), MOST_WEIGHT)
    return weights


def _counts_of(
    cells: NDArray[np.int64], predicted: NDArray[np.int64], labels: dict[int, str]
) -> NDArray[np.int64]:
    """Confusion counts of cells (P, S) by their most frequent label; unlabelled ones left out."""
    row_of = np.full(1 << 16, -1, dtype=np.int64)
    row_of[list(labels)] = np.arange(len(labels))
    truth = most_frequent(row_of[cells], len(labels))
    known = truth >= 0
    return count_pairs(truth[known], predicted[known], len(labels))


def most_frequent(cells: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The most frequent of each row's values in [-1, size); the smallest of equals.

    Args:
        cells: (P, S).
        size: number of labels.

    Returns:
        (P,).
    """
    flat = cells + 1 + (size + 1) * np.arange(len(cells))[:, None]
    counts = np.bincount(flat.ravel(), minlength=len(cells) * (size + 1))
    most: NDArray[np.int64] = counts.reshape(len(cells), size + 1).argmax(axis=1) - 1
    return most
