"""What upstream carries for a numpy too old to have it; here numpy always has it."""

from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured

__all__ = ['structured_to_unstructured', 'unstructured_to_structured']
