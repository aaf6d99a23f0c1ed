"""Episodes on a ROS graph, as bags."""
