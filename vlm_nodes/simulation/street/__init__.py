"""A simulated street seen by six surround cameras, and recordings of it in nuScenes' layout."""
