"""A small arm on a table, seen by a camera and felt by its fingertip, with tasks in words."""
