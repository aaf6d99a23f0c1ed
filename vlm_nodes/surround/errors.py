"""The one error of surround data."""

from __future__ import annotations


class SurroundError(ValueError):
    """Surround data that cannot be used; the message names the file, the row and what to do."""
