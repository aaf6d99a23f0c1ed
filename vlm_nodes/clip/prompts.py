"""Sentences around a name: CLIP learned captions, and their average is steadier than one."""

import re

TEMPLATES: tuple[str, ...] = (
    '{}',
    'a {}',
    'a photo of a {}',
    'a picture of the {}',
    'there is a {} in the room',
    'a {} seen from nearby',
    'a {} seen from afar',
)

MAX_CHARACTERS = 1000
"""Longer texts are cut: towers read 77 tokens, and long words make the tokenizer slow."""

_ARTICLE = re.compile(r'^(?:an?|the)\s+', re.IGNORECASE)


def captions(name: str, templates: tuple[str, ...] = TEMPLATES) -> list[str]:
    """The sentences whose embeddings stand for a name.

    Args:
        name: what to look for, such as 'red mug'; surrounding space and a leading article are
            dropped.
        templates: sentences with one `{}` each.

    Returns:
        One sentence a template.

    Raises:
        ValueError: nothing is left of the name, or there are no templates.
    """
    if not templates:
        raise ValueError('there must be at least one prompt template')
    bare = ' '.join(name[:MAX_CHARACTERS].split())
    bare = _ARTICLE.sub('', bare) or bare
    if not bare:
        raise ValueError(f'text to encode is empty: {name[:20]!r}')
    return [template.replace('{}', bare) for template in templates]
