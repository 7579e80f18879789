"""The five contracts, executable: for whoever writes a component.

    pytest --pyargs geomag.testing -k acme

checks every component of the plugin `acme`, each promise by itself. `check_component` does the same
for one component, packaged or not, and returns what it does not keep.
"""

from __future__ import annotations

from .conformance import Violation, check_component

__all__ = ["Violation", "check_component"]
