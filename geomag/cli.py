"""The console command `geomag`. Nothing heavy is imported before a command needs it.

A command is a function from its parsed arguments to the text that `main` prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from . import __version__, doctor_command, plugins, predict_command
from .errors import GeoMagError
from .hookspecs import ENTRY_POINT_GROUP

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. What the user got wrong is one line on stderr."""
    parsed = _parser().parse_args(arguments)
    try:
        print(parsed.command(parsed))
    except GeoMagError as error:
        print(f"geomag: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("geomag: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geomag", description="Ask questions about aerial scenes of any size."
    )
    parser.add_argument("--version", action="version", version=f"geomag {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="answer a question about an image")
    predict_command.add_arguments(predict)
    predict.set_defaults(command=predict_command.run)
    listing = commands.add_parser("plugins", help="list what is installed, and what cannot be used")
    listing.set_defaults(command=_plugins)
    doctor = commands.add_parser(
        "doctor", help="say what is installed, what is wrong, and the cure"
    )
    doctor.set_defaults(command=doctor_command.run)
    return parser


def _plugins(_: argparse.Namespace) -> str:
    return "\n".join(_listed(plugins.inventory()))


def _listed(stock: plugins.Inventory) -> Iterator[str]:
    yield f"GeoMag {__version__}, plugins in the entry-point group {ENTRY_POINT_GROUP}"
    if not stock.plugins:
        yield "\nNo plugin is installed."
    for plugin in stock.plugins:
        yield f"\n{plugin.name}  ({plugin.package} {plugin.version})"
        for component in plugin.components:
            lacks = f"  cannot be used here: {component.unavailable}"
            yield (
                f"  {component.kind:<22}  {plugin.name}/{component.name}"
                f"{lacks if component.unavailable else ''}"
            )
    if stock.problems:
        yield "\nCannot be used:"
    for problem in stock.problems:
        yield f"  {problem.plugin}  ({problem.package} {problem.version}): {problem.reason}"


if __name__ == "__main__":
    sys.exit(main())
