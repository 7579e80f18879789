"""OpenMMLab without its chatter: it prints, logs and warns about what the user cannot change."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Nothing that is printed, logged by mmengine or warned of inside is seen."""
    from mmengine.logging import MMLogger

    logger: logging.Logger = MMLogger.get_current_instance()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.addFilter(_nothing)
        try:
            yield
        finally:
            logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
