"""Makes an environment that sees another below it: python tools/lay_over.py NEW BELOW

What is installed in NEW comes first, and all else is that of BELOW.
"""

import sys
import venv
from pathlib import Path


def main() -> int:
    new, below = (Path(name).absolute() for name in sys.argv[1:3])
    venv.create(new, clear=True, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path("lib") / version / "site-packages"
    line = f"import site; site.addsitedir({str(below / packages)!r})\n"
    (new / packages / "below.pth").write_text(line, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
