"""The one error of LangOcc."""

from __future__ import annotations


class LangOccError(ValueError):
    """Something LangOcc cannot use; the message says what, where and what to do."""
