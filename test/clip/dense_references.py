"""Slow, obvious versions of the dense methods: one image, one head, one patch at a time, float64.

Written from the formulae, with numpy alone; weights are read out of open_clip's state dict.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(row: Array) -> Array:
    finite = np.exp(row - row.max())
    return finite / finite.sum()


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    out = np.empty_like(x)
    for i, row in enumerate(x):
        out[i] = (row - row.mean()) / math.sqrt(row.var() + 1e-5) * weight + bias
    return out


def gelu(x: Array) -> Array:
    return np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(x)


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


class ReferenceTransformer:
    """open_clip's VisionTransformer, from its state dict."""

    def __init__(self, state: dict[str, Array], heads: int, patch: int, quick: bool) -> None:
        self.state = state
        self.heads = heads
        self.patch = patch
        self.activation = quick_gelu if quick else gelu
        self.blocks = 1 + max(int(k.split('.')[2]) for k in state if 'resblocks' in k)

    def norm(self, name: str, x: Array) -> Array:
        return layer_norm(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def embed(self, image: Array, positions: Array) -> Array:
        """(3, H, W) -> (1 + h w, C), before the first block."""
        kernel = self.state['conv1.weight']
        p = self.patch
        tokens = [self.state['class_embedding']]
        for i in range(image.shape[1] // p):
            for j in range(image.shape[2] // p):
                window = image[:, i * p : (i + 1) * p, j * p : (j + 1) * p]
                tokens.append(np.array([(k * window).sum() for k in kernel]))
        return self.norm('ln_pre', np.stack(tokens) + positions)

    def project_in(self, block: int, x: Array) -> tuple[list[Array], list[Array], list[Array]]:
        """Queries, keys and values of ln_1(x), a list over heads each."""
        name = f'transformer.resblocks.{block}'
        y = self.norm(f'{name}.ln_1', x)
        weight = self.state[f'{name}.attn.in_proj_weight']
        joint = y @ weight.T + self.state[f'{name}.attn.in_proj_bias']
        q, k, v = np.split(joint, 3, axis=1)
        return tuple(np.split(part, self.heads, axis=1) for part in (q, k, v))  # type: ignore

    def project_out(self, block: int, heads: list[Array]) -> Array:
        name = f'transformer.resblocks.{block}.attn.out_proj'
        return (
            np.concatenate(heads, 1) @ self.state[f'{name}.weight'].T + self.state[f'{name}.bias']
        )

    def run_block(self, block: int, x: Array) -> Array:
        name = f'transformer.resblocks.{block}'
        mixed = []
        for q, k, v in zip(*self.project_in(block, x), strict=True):
            rows = [softmax(q[i] @ k.T / math.sqrt(q.shape[1])) @ v for i in range(len(x))]
            mixed.append(np.stack(rows))
        x = x + self.project_out(block, mixed)
        hidden = self.norm(f'{name}.ln_2', x) @ self.state[f'{name}.mlp.c_fc.weight'].T
        hidden = self.activation(hidden + self.state[f'{name}.mlp.c_fc.bias'])
        return (
            x
            + hidden @ self.state[f'{name}.mlp.c_proj.weight'].T
            + self.state[f'{name}.mlp.c_proj.bias']
        )

    def outputs(self, image: Array, positions: Array) -> list[Array]:
        x = self.embed(image, positions)
        found = []
        for block in range(self.blocks - 1):
            x = self.run_block(block, x)
            found.append(x)
        return found

    def to_text_space(self, z: Array) -> Array:
        return self.norm('ln_post', z) @ self.state['proj']


def maskclip(tower: ReferenceTransformer, outputs: list[Array], grid: tuple[int, int]) -> Array:
    last = tower.blocks - 1
    _, _, values = tower.project_in(last, outputs[-1])
    return tower.to_text_space(tower.project_out(last, values)[1:])


def naclip(tower: ReferenceTransformer, outputs: list[Array], grid: tuple[int, int]) -> Array:
    last = tower.blocks - 1
    _, keys, values = tower.project_in(last, outputs[-1])
    places = [(i, j) for i in range(grid[0]) for j in range(grid[1])]
    mixed = []
    for k, v in zip(keys, values, strict=True):
        rows = []
        for a in range(len(k)):
            logits = np.array([k[a] @ k[b] / math.sqrt(k.shape[1]) for b in range(len(k))])
            if a > 0:
                for b in range(1, len(k)):
                    (i, j), (m, n) = places[a - 1], places[b - 1]
                    logits[b] += math.exp(-((i - m) ** 2 + (j - n) ** 2) / (2 * 5.0**2))
            rows.append(softmax(logits) @ v)
        mixed.append(np.stack(rows))
    return tower.to_text_space(tower.project_out(last, mixed)[1:])


def local_outlier_factors(x: Array, k: int = 30) -> Array:
    n = len(x)
    k = min(k, n - 1)
    distance = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    neighbours = []
    for i in range(n):
        order = [j for j in np.argsort(distance[i], kind='stable') if j != i]
        neighbours.append(order[:k])
    k_distance = [distance[i, neighbours[i][-1]] for i in range(n)]
    density = []
    for i in range(n):
        reach = [max(k_distance[j], distance[i, j]) for j in neighbours[i]]
        density.append(1 / np.mean(reach))
    return np.array([np.mean([density[j] for j in neighbours[i]]) / density[i] for i in range(n)])


def repaired(x: Array, outliers: set[int], grid: tuple[int, int]) -> Array:
    out = x.copy()
    for index in outliers:
        i, j = divmod(index, grid[1])
        normal = []
        for m in range(max(i - 1, 0), min(i + 2, grid[0])):
            for n in range(max(j - 1, 0), min(j + 2, grid[1])):
                if m * grid[1] + n not in outliers:
                    normal.append(x[m * grid[1] + n])
        if normal:
            out[index] = np.mean(normal, axis=0)
    return out


def similarities(x: Array) -> Array:
    return np.array([[cosine(a, b) for b in x] for a in x])


def spread(similarity: Array, x: Array) -> Array:
    """Row-normalised(S where S >= 0.4) x."""
    out = np.empty_like(x)
    for i, row in enumerate(similarity):
        kept = np.array([s if s >= 0.4 else 0.0 for s in row])
        out[i] = kept / kept.sum() @ x
    return out


def sc_clip(
    tower: ReferenceTransformer,
    outputs: list[Array],
    grid: tuple[int, int],
    middle: int,
    early: int,
) -> Array:
    """Block numbers as in the paper: `middle` is 9 and `early` is 4 of 12."""
    last = tower.blocks - 1
    f = dict(enumerate(outputs, start=1))
    deep = f[last][1:]
    factors = local_outlier_factors(deep)
    outliers = set(np.argsort(-factors, kind='stable')[: int(0.05 * len(deep))].tolist())
    deep = repaired(deep, outliers, grid)
    similarity = similarities(repaired(f[middle][1:], outliers, grid))
    gate = similarities(f[early][1:])

    def attend(patches: Array, class_token: Array) -> Array:
        _, keys, values = tower.project_in(last, patches)
        centred = 3 * (similarity - similarity.mean())
        mixed = []
        for k, v in zip(keys, values, strict=True):
            rows = []
            for i in range(len(patches)):
                shared = softmax(np.where(centred[i] < 0, -np.inf, centred[i]))
                own = softmax(k[i] @ k.T / math.sqrt(k.shape[1]))
                rows.append((shared + own) / 2 @ v)
            mixed.append(np.stack(rows))
        return tower.project_out(last, mixed) + 0.3 * class_token

    z = spread(gate, attend(spread(similarity, deep), f[last][0]))
    levels = sum(f[number] for number in range(early, last))
    z = z + spread(gate, attend(levels[1:], levels[0]))
    return tower.to_text_space(z)
