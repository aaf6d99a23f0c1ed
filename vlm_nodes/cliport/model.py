"""CLIPort: a picture of the table and a sentence to where to pick and where to place.

Written from Shridhar et al., CLIPort (arXiv 2109.12098), and Zeng et al., Transporter Networks
(arXiv 2010.14406); the rotation of features after one pass is that of Huang et al., Equivariant
Transporter Network (arXiv 2202.09400). How sentences are read is this package's own: see
`vlm_nodes.cliport.language`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.cliport.backbones import LEVEL_STRIDES, FrozenClip
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.fusion import AddHead
from vlm_nodes.cliport.language import Language, Reading, SentenceReader, embed_language
from vlm_nodes.cliport.place import PlaceHead
from vlm_nodes.cliport.rotation import rotated_windows
from vlm_nodes.cliport.samples import Scene
from vlm_nodes.cliport.streams import StreamMaps, TwoStreams

_STREAMS_OF = {
    'all': {'pick': 0, 'key': 0, 'query': 0},
    'place': {'pick': 0, 'key': 1, 'query': 1},
    'none': {'pick': 0, 'key': 1, 'query': 2},
}


@dataclass(frozen=True, eq=False)
class Seen:
    """B pictures after the passes that need no pick; what `CliportModel.place` goes on with.

    Attributes:
        pick_logits: (B, pick_angles, h, w) float32; bin k stands for k pi / pick_angles.
        key: Maps in which places are looked for.
        query: Maps that queries are cut from; None where crops of the picture are passed.
        joint: (B, D, h', w') CLIP's patches of the padded pictures.
        picture: (B, 5, H', W') colour, height and seen.
        language: Of B sentences.
        reading: Of the same.
    """

    pick_logits: Tensor
    key: StreamMaps
    query: StreamMaps | None
    joint: Tensor
    picture: Tensor
    language: Language
    reading: Reading


class CliportModel(nn.Module):
    """Pick and place maps for any number of tables at once.

    The CLIP is shared by all parts, frozen, and no part of the state: `state_dict()` holds trained
    weights only. Two identical calls in evaluation mode give identical answers.
    """

    def __init__(self, config: ModelConfig, clip: FrozenClip) -> None:
        """Untrained, but for the CLIP; seed torch for the same weights again."""
        super().__init__()
        self.config = config
        self.clip = clip
        self.reader = SentenceReader(config, clip.joint_dim)
        self._part = _STREAMS_OF[config.sharing]
        self.streams = nn.ModuleList(
            TwoStreams(config, clip.level_widths, self.reader.summary_dim)
            for _ in range(1 + max(self._part.values()))
        )
        self.pick_head = AddHead(config, config.pick_angles)
        self.place_head = PlaceHead(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(self, instructions: Sequence[str]) -> Language:
        """Sentences through CLIP, on the model's device; each word only once."""
        language = embed_language(self.clip, instructions, self.config.words)
        return language.to(self.reader.sentence.weight.device)

    def forward(
        self, scene: Scene, language: Language, pick_cells: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pick and place logits, the place's for given picks.

        Args:
            scene: B pictures of any size.
            language: Of B sentences.
            pick_cells: (B, 2) rows and columns of `output_stride` pixels.

        Returns:
            (B, pick_angles, h, w) and (B, rotations, h, w) float32.
        """
        seen = self.look(scene, language)
        return seen.pick_logits, self.place(seen, pick_cells)

    def look(self, scene: Scene, language: Language) -> Seen:
        """All passes over whole pictures, and the pick's logits."""
        reading = self.reader(language)
        padded = pad(scene, self.config.output_stride)
        features = self.clip.features(padded.color)
        passed: dict[int, StreamMaps] = {}
        wanted = ['pick', 'key'] + ['query'] * (self.config.query_form == 'rotate')
        for number in dict.fromkeys(self._part[name] for name in wanted):
            maps = self.streams[number](padded, features, language, reading)
            passed[number] = self._cut(maps, scene.shape)
        pick, key = passed[self._part['pick']], passed[self._part['key']]
        return Seen(
            self.pick_head(pick.spatial, pick.semantic).float(),
            key,
            passed[self._part['query']] if 'query' in wanted else None,
            features.joint,
            torch.cat(
                [scene.color, scene.height_m.unsqueeze(1), scene.seen.unsqueeze(1).float()], dim=1
            ),
            language,
            reading,
        )

    def place(self, seen: Seen, pick_cells: Tensor) -> Tensor:
        """The place's logits for picks at given cells: (B, rotations, h, w) float32."""
        if seen.query is not None:
            queries = self.place_head.rotated_queries(seen.query, pick_cells)
        else:
            queries = self.place_head.cropped_queries(self._crops(seen, pick_cells))
        logits: Tensor = self.place_head(seen.key, queries)
        return logits

    def _crops(self, seen: Seen, cells: Tensor) -> StreamMaps:
        """Turned crops of the picture through the query's streams."""
        count, stride = self.config.rotations, self.config.output_stride
        centres = (cells + 0.5) * stride - 0.5
        crops = rotated_windows(seen.picture, centres, count, self.config.crop_px, stride)
        crops = crops.flatten(0, 1)
        color = crops[:, :3].contiguous()
        scene = Scene(color, crops[:, 3], crops[:, 4] > 0.5)
        reading = Reading(
            *(
                part.repeat_interleave(count, dim=0)
                for part in (seen.reading.attention, seen.reading.lexical, seen.reading.summary)
            )
        )
        streams = self.streams[self._part['query']]
        features = self.clip.features(color)
        maps: StreamMaps = streams(scene, features, seen.language.repeat(count), reading)
        return maps

    def _cut(self, maps: StreamMaps, shape: tuple[int, int]) -> StreamMaps:
        """Without what was padded."""
        stride = self.config.output_stride
        (top, _), (left, _) = (margins(side, stride) for side in shape)
        rows = slice(top // stride, top // stride - (-shape[0] // stride))
        columns = slice(left // stride, left // stride - (-shape[1] // stride))
        return StreamMaps(maps.spatial[..., rows, columns], maps.semantic[..., rows, columns])


def pad(scene: Scene, stride: int) -> Scene:
    """A border of holes, so that both sides are multiples of the backbone's coarsest stride.

    The border is alike on opposite sides, to whole cells of `stride` pixels.
    """
    (top, bottom), (left, right) = (margins(side, stride) for side in scene.shape)
    border = (left, right, top, bottom)
    return Scene(
        functional.pad(scene.color, border),
        functional.pad(scene.height_m, border),
        functional.pad(scene.seen, border),
    )


def margins(side: int, stride: int) -> tuple[int, int]:
    """What `pad` adds before and after a side, in pixels."""
    total = -side % LEVEL_STRIDES[-1]
    before = total // 2 // stride * stride
    return before, total - before
