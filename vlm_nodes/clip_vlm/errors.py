"""The one error of CLIP-VLM."""

from __future__ import annotations


class ClipVlmError(ValueError):
    """Something CLIP-VLM cannot use; the message says what, where and what to do."""
