"""Graphs of nodes in processes of their own, for tools that start nodes and talk to them."""
