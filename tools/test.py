"""Tests a GeoMag: python tools/test.py CONFIG CHECKPOINT [--out FILE] [--show-dir DIR] ..."""

import os
import sys

# Read when torch is imported: idle threads sleep, and leave their core to the loader's workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from geomag.engine.launch import test

if __name__ == "__main__":
    sys.exit(test(sys.argv[1:]))
