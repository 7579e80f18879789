"""Publishes weights: python tools/publish_model.py CHECKPOINT NAME.safetensors --card CARD.json"""

import sys

from geomag.engine.publish import publish

if __name__ == "__main__":
    sys.exit(publish(sys.argv[1:]))
