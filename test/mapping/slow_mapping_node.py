"""mapping_node with an encoder and a disk that take an hour; what is slow is said on stdout."""

import os
import sys
import time

from color_oracle import ColorOracle

from vlm_nodes.mapping.node import MappingNode
from vlm_nodes.node import main


def stall(what):
    sys.stdout.write(f'{what}\n')
    sys.stdout.flush()
    time.sleep(3600)


class SlowOracle(ColorOracle):
    def encode_text(self, texts):
        if 'slowly' in texts:
            stall('query')
        return super().encode_text(texts)

    def encode_dense(self, image):
        stall('fusion')
        return super().encode_dense(image)


class SlowStart(MappingNode):
    """Swallows the interrupt, as C code that calls back into Python does."""

    def __init__(self):
        try:
            stall('start')
        except KeyboardInterrupt:
            sys.stdout.write('swallowed\n')
        super().__init__()


def make():
    os.fsync = lambda descriptor: stall('save')
    return SlowStart() if 'start' in sys.argv else MappingNode(encoder=SlowOracle())


if __name__ == '__main__':
    main(make)
