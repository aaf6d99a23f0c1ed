"""The functions that upstream implements in C++, under the name it gives that module.

They raise RuntimeError; ``CvBridge`` turns that into CvBridgeError.
"""

from cv_bridge.conversions import cvtColor2
from cv_bridge.display import cvtColorForDisplay
from cv_bridge.encodings import CV_MAT_CNWrap, CV_MAT_DEPTHWrap, getCvType

__all__ = [
    'CV_MAT_CNWrap',
    'CV_MAT_DEPTHWrap',
    'cvtColor2',
    'cvtColorForDisplay',
    'getCvType',
]
