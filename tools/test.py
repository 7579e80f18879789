"""Tests a GeoMag: python tools/test.py CONFIG CHECKPOINT [--out FILE] [--show-dir DIR] ..."""

import sys

from geomag.engine.launch import test

if __name__ == "__main__":
    sys.exit(test(sys.argv[1:]))
