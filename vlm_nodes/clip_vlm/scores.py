"""How close texts are to those wanted: BLEU, ROUGE-L and exact matches."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_nodes.clip.torchvision_import import ensure_torchvision
from vlm_nodes.clip_vlm.errors import ClipVlmError


def score_texts(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Scores of texts, each against one reference, from 0 to 1.

    BLEU (Papineni et al. 2002) is of the whole corpus, with sacreBLEU's '13a' words (Post 2018);
    ROUGE-L (Lin 2004) is the mean F-measure; both are torchmetrics'. `exact` is the share of texts
    that are the reference but for spaces.

    Raises:
        ClipVlmError: There is no text, or there are more of one kind than of the other.
    """
    if not said or len(said) != len(wanted):
        raise ClipVlmError(f'{len(said)} texts cannot be scored against {len(wanted)} references')
    ensure_torchvision()  # torchmetrics imports it
    from torchmetrics.functional.text import rouge_score, sacre_bleu_score

    bleu = sacre_bleu_score(list(said), [[text] for text in wanted])
    rouge = rouge_score(list(said), list(wanted), rouge_keys='rougeL')
    exact = [a.split() == b.split() for a, b in zip(said, wanted, strict=True)]
    return {
        'bleu': float(bleu),
        'rouge_l': float(rouge['rougeL_fmeasure']),
        'exact': sum(exact) / len(exact),
    }
