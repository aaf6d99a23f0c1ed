"""CLIP: text, image and dense patch features; its weights, and adapting it to a domain."""
