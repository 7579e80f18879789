"""Answers as pictures, for people."""
