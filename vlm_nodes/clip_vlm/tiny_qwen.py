"""A Qwen of random weights that a CPU can train: for tests, benchmarks and trying things out.

    python -m vlm_nodes.clip_vlm.tiny_qwen --kind qwen2_5_vl --texts captions.json --out tiny_qwen

It is of transformers' own classes, with a tokenizer made from the given texts, and lies in a folder
as a Qwen of Hugging Face does. It knows nothing: train it with --use-lora --train-embeddings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.clip_vlm.backend import transformers
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.qwen import CLASSES
from vlm_nodes.command_line import run, say

SPECIAL: Final = (
    '<|endoftext|>', '<|im_start|>', '<|im_end|>',
    '<|vision_start|>', '<|vision_end|>', '<|image_pad|>', '<|video_pad|>',
)  # fmt: skip
"""Qwen's own, numbered from 0."""

CHAT_TEMPLATE: Final = (
    '{% for message in messages %}'
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    '{% endfor %}'
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)
HOLDS: Final = (
    'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json',
    'generation_config.json', 'preprocessor_config.json', 'chat_template.jinja',
)  # fmt: skip
_SPREAD: Final = 0.1
"""Standard deviation of weights: about 1 / sqrt(width) as narrow as this, not Qwen's 0.02."""
_PATCH: Final = {'qwen2_5_vl': 14, 'qwen3_vl': 16}


def make_tokenizer(texts: Iterable[str], vocabulary: int = 1000) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016) of texts, with Qwen's special tokens.

    Any text can be written with it, those that it was made from with few tokens.
    """
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<|im_end|>', pad_token='<|endoftext|>'
    )
    fast.add_special_tokens({'additional_special_tokens': list(SPECIAL)})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(kind: str, vocabulary: int, hidden_size: int, layers: int, seed: int) -> Any:
    """A model of random weights.

    Raises:
        ClipVlmError: The kind is not known.
    """
    if kind not in CLASSES:
        raise ClipVlmError(f'unknown kind {kind!r}; choose of {", ".join(CLASSES)}')
    heads, ids = 4, {name: number for number, name in enumerate(SPECIAL)}
    text: dict[str, Any] = {
        'vocab_size': vocabulary,
        'hidden_size': hidden_size,
        'intermediate_size': 2 * hidden_size,
        'num_hidden_layers': layers,
        'num_attention_heads': heads,
        'num_key_value_heads': 2,
        'max_position_embeddings': 4096,
        'bos_token_id': None,
        'eos_token_id': ids['<|im_end|>'],
        'pad_token_id': ids['<|endoftext|>'],
        'tie_word_embeddings': False,
        'initializer_range': _SPREAD,
    }
    marks = {
        'image_token_id': ids['<|image_pad|>'],
        'video_token_id': ids['<|video_pad|>'],
        'vision_start_token_id': ids['<|vision_start|>'],
        'vision_end_token_id': ids['<|vision_end|>'],
        'tie_word_embeddings': False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == 'qwen3':
            rope = {'rope_type': 'default', 'rope_theta': 1e4}
            config: Any = transformers.Qwen3Config(
                **text, head_dim=hidden_size // heads, rope_parameters=rope
            )
        else:
            config = _VISUAL[kind](text, marks, heads)
        return getattr(transformers, CLASSES[kind])(config)


def _rope(head_dim: int) -> dict[str, Any]:
    # The sections of the three axes must add up to half a head.
    third = head_dim // 2 // 3
    sections = [head_dim // 2 - 2 * third, third, third]
    return {'rope_type': 'default', 'rope_theta': 1e4, 'mrope_section': sections}


def _qwen2_5_vl(text: dict[str, Any], marks: dict[str, Any], heads: int) -> Any:
    vision = {
        'depth': 2,
        'hidden_size': 32,
        'intermediate_size': 64,
        'num_heads': 2,
        'patch_size': _PATCH['qwen2_5_vl'],
        'window_size': 112,
        'fullatt_block_indexes': [1],
        'out_hidden_size': text['hidden_size'],
        'initializer_range': _SPREAD,
    }
    rope = _rope(text['hidden_size'] // heads)
    return transformers.Qwen2_5_VLConfig(
        text_config={**text, 'rope_parameters': rope}, vision_config=vision, **marks
    )


def _qwen3_vl(text: dict[str, Any], marks: dict[str, Any], heads: int) -> Any:
    vision = {
        'depth': 2,
        'hidden_size': 32,
        'intermediate_size': 64,
        'num_heads': 2,
        'patch_size': _PATCH['qwen3_vl'],
        'num_position_embeddings': 64,
        'deepstack_visual_indexes': [0, 1],
        'out_hidden_size': text['hidden_size'],
        'initializer_range': _SPREAD,
    }
    head_dim = text['hidden_size'] // heads
    rope = {**_rope(head_dim), 'mrope_interleaved': True}
    return transformers.Qwen3VLConfig(
        text_config={**text, 'head_dim': head_dim, 'rope_parameters': rope},
        vision_config=vision,
        **marks,
    )


_VISUAL: Final = {'qwen2_5_vl': _qwen2_5_vl, 'qwen3_vl': _qwen3_vl}


def write_tiny_qwen(
    out: Path,
    texts: Sequence[str],
    kind: str = 'qwen2_5_vl',
    *,
    hidden_size: int = 64,
    layers: int = 2,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make a tiny Qwen in a folder, as `Qwen.load` takes it.

    Args:
        out: The folder.
        texts: What its tokenizer is made from.
        kind: A key of `qwen.CLASSES`.
        hidden_size: Width of its tokens, a multiple of 8 from 32 on.
        layers: Of the language model.
        seed: Its weights follow from it.
        overwrite: Replace such a folder that is there.

    Raises:
        ClipVlmError: The kind is not known, or a size makes no sense.
        FileExistsError: The folder is there and is not to be replaced, or holds other things.
    """
    if hidden_size < 32 or hidden_size % 8 or layers < 1:
        raise ClipVlmError(
            f'hidden_size must be a multiple of 8 from 32 on and layers at least 1, '
            f'are {hidden_size} and {layers}'
        )
    tokenizer = make_tokenizer(texts)
    model = make_model(kind, len(tokenizer), hidden_size, layers, seed)
    with whole_folder(out, overwrite=overwrite, holds=HOLDS) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if kind in _PATCH:
            _image_processor(_PATCH[kind]).save_pretrained(part)


def _image_processor(patch: int) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, temporal_patch_size=2)


def texts_in(path: Path) -> list[str]:
    """All texts of a JSON file, however deep they lie.

    Raises:
        ClipVlmError: It cannot be read or holds no text.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ClipVlmError(f'cannot read texts from {path}: {error}') from error
    texts = list(_texts(content))
    if not texts:
        raise ClipVlmError(f'{path} holds no text')
    return texts


def _texts(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def _run(options: argparse.Namespace) -> int:
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    write_tiny_qwen(
        options.out,
        texts_in(options.texts),
        options.kind,
        hidden_size=options.hidden_size,
        layers=options.layers,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    say(f'a {options.kind} of random weights in {options.out}')
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The tool."""
    parser = argparse.ArgumentParser(
        prog='tiny_qwen', description='Make a tiny Qwen of random weights, to try things out.'
    )
    add = parser.add_argument
    add('--out', type=Path, required=True, help='folder to make')
    add('--texts', type=Path, required=True, help='JSON file whose texts the tokenizer is made of')
    add('--kind', choices=sorted(CLASSES), default='qwen2_5_vl')
    add('--hidden-size', type=int, default=64, help='(default: 64)')
    add('--layers', type=int, default=2, help='of the language model (default: 2)')
    add('--seed', type=int, default=0)
    add('--overwrite', action='store_true', help='replace OUT if it is there')
    options = parser.parse_args(arguments)
    return run('tiny_qwen', lambda: _run(options))


if __name__ == '__main__':
    sys.exit(main())
