"""Trains a GeoMag: python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] ..."""

import sys

from geomag.engine.launch import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
