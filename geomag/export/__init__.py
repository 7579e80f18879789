"""Answers as pictures, for people, and as polygons and rasters, for maps."""
