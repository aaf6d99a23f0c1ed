"""ROS images to OpenCV's arrays and back: a stand-in for ROS 2 Jazzy's Python package.

Names, signatures and behaviour follow ros-perception/vision_opencv. Where ROS is installed its
own package is imported instead of this one.
"""

from cv_bridge.boost.cv_bridge_boost import cvtColorForDisplay, getCvType
from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ['CvBridge', 'CvBridgeError', 'cvtColorForDisplay', 'getCvType']
