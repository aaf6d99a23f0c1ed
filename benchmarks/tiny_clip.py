"""How well `tiny` names what it sees in rooms it was never trained on, patch by patch.

Renders random views of held-out rooms, gives every patch the label whose text is nearest, among all
colour and kind pairs and the room's own labels, and compares with the label that most of the
patch's pixels have. Pairs seen in training and pairs never seen are averaged apart. Then it asks
for every pair by name, as a map does, and counts images in which it is there and found, and not
there and found all the same.

    python benchmarks/tiny_clip.py [--seeds 1500000 1500001 ...] [--model tiny] [--quick]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.adaptation import NEGATIVES
from vlm_nodes.clip.confusion import count_pairs, intersection_over_union, mean_iou
from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.weights import find_model
from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.label_data import label_images
from vlm_nodes.simulation.viewpoints import ViewRange

LABELS = vocabulary.LABELS
PAIRS_FROM = len(vocabulary.ROOM_LABELS)
FOUND = 0.5
VISIBLE_CELLS = 4


def cell_truth(labels: NDArray[np.uint16], grid: tuple[int, int]) -> NDArray[np.int64]:
    """Most frequent label of every patch: (H, W) ids -> (h, w) indices of LABELS, -1 for none."""
    rows = np.arange(labels.shape[0]) * grid[0] // labels.shape[0]
    columns = np.arange(labels.shape[1]) * grid[1] // labels.shape[1]
    cell = rows[:, None] * grid[1] + columns
    size = len(LABELS) + 1
    counts = np.bincount((cell * size + labels).ravel(), minlength=grid[0] * grid[1] * size)
    return counts.reshape(*grid, size).argmax(-1) - 1


def scores(encoder: Encoder, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of every label's text against the negatives, as maps are queried: (h, w, L)."""
    texts = encoder.encode_text(LABELS) * encoder.logit_scale
    negatives = encoder.encode_text(NEGATIVES) * encoder.logit_scale
    nothing = np.logaddexp.reduce(features @ negatives.T, axis=-1)
    return 1 / (1 + np.exp(nothing[..., None] - features @ texts.T))


def evaluate(encoder: Encoder, seeds: list[int], views: int, size: int) -> dict[str, float]:
    """All figures over some rooms."""
    texts = encoder.encode_text(LABELS)
    counts = np.zeros((len(LABELS), len(LABELS)), np.int64)
    found: dict[bool, list[bool]] = {True: [], False: []}
    images = 0
    for seed in seeds:
        for picture in label_images(range(seed, seed + 1), views, ViewRange(size)):
            features = encoder.encode_dense(picture.rgb)
            truth = cell_truth(picture.labels, features.shape[:2])
            known = truth >= 0
            predicted = (features @ texts.T).argmax(-1)
            counts += count_pairs(truth[known], predicted[known], len(LABELS))
            best = scores(encoder, features).max(axis=(0, 1))
            cells = np.bincount(truth[known], minlength=len(LABELS))
            for index in range(PAIRS_FROM, len(LABELS)):
                if cells[index] == 0 or cells[index] >= VISIBLE_CELLS:
                    found[bool(cells[index])].append(bool(best[index] > FOUND))
            images += 1
    return {
        **figures(counts),
        'present_found': float(np.mean(found[True])),
        'absent_found': float(np.mean(found[False])),
        'images': images,
        'rooms': len(seeds),
    }


def figures(counts: NDArray[np.int64]) -> dict[str, float]:
    """Mean IoU of seen pairs, unseen pairs and the room's labels."""
    iou = intersection_over_union(counts)
    unseen = [
        vocabulary.LABEL_IDS[vocabulary.label_of(*p)] - 1 for p in vocabulary.pairs(unseen=True)
    ]
    seen = [
        vocabulary.LABEL_IDS[vocabulary.label_of(*p)] - 1 for p in vocabulary.pairs(unseen=False)
    ]
    return {
        'miou_seen': mean_iou(iou, seen),
        'miou_unseen': mean_iou(iou, unseen),
        'miou_room': mean_iou(iou, list(range(PAIRS_FROM))),
        'labels_shown': int(np.isfinite(iou).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--seeds', type=int, nargs='+', help='rooms; 1500000 and up by default')
    parser.add_argument('--views', type=int, default=6, help='pictures a room (default: 6)')
    parser.add_argument('--size', type=int, default=128, help='side of the pictures (default: 128)')
    parser.add_argument(
        '--image-size', type=int, help='side at which they are encoded; as they are by default'
    )
    parser.add_argument('--model', default='tiny', help='as Encoder.load takes it')
    parser.add_argument('--quick', action='store_true', help='two rooms: a smoke run')
    options = parser.parse_args()
    first = vocabulary.TEST_SEEDS.start + 500_000
    seeds = options.seeds or list(range(first, first + (2 if options.quick else 120)))
    trained_on = [seed for seed in seeds if seed not in vocabulary.TEST_SEEDS]
    if trained_on:
        parser.error(f'rooms {trained_on} are not held out; take {vocabulary.TEST_SEEDS}')
    encoder = Encoder.load(
        options.model, num_threads=1, image_size=options.image_size or options.size
    )
    weights: Path = find_model(options.model).weights
    result = evaluate(encoder, seeds, options.views, options.size)
    result['megabytes'] = weights.stat().st_size / 1e6
    result['pixels_a_side'] = options.size
    print(json.dumps({key: round(value, 4) for key, value in result.items()}))


if __name__ == '__main__':
    main()
