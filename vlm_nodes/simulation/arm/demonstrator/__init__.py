"""The scripted expert as a node."""
