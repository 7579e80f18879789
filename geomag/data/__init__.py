"""Labelled scenes for training and testing: one file per annotation format."""
