"""Exports parts of a model: python tools/export_model.py CONFIG CHECKPOINT FOLDER [--slots ...]"""

import sys

from geomag.engine.exporting import export

if __name__ == "__main__":
    sys.exit(export(sys.argv[1:]))
