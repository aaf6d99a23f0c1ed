"""Point clouds as arrays: a stand-in for ROS 2 Jazzy's Python package of this name.

Names, signatures and behaviour follow ros2/common_interfaces 5.3. Where ROS is installed its own
package is imported instead of this one.
"""
