"""GeoMag answers questions about aerial scenes, and looks closely only where the question asks."""

from __future__ import annotations

__version__ = "0.1.0"
