"""CLIP-VLM: surround cameras and a prompt to text, through a connector between frozen models.

CLIP sees each camera, a connector fuses the views and projects them to the width of a language
model, which speaks. Only the connector is trained, and low-rank adapters where they are asked for.
"""
