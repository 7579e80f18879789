"""Trains a GeoMag: python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] ..."""

import os
import sys

# Read when torch is imported: idle threads sleep, and leave their core to the loader's workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from geomag.engine.launch import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
