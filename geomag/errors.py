"""What users are told: one line that names the culprit, what was expected and the cure."""

from __future__ import annotations

from collections.abc import Sequence


class GeoMagError(Exception):
    """Something outside GeoMag's code is wrong; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


class ConfigError(GeoMagError):
    """A config names something that does not exist, or leaves out something that must."""


class ContractError(GeoMagError):
    """A component does not keep the promise of its slot; lists every violation."""

    def __init__(self, component: str, problems: Sequence[str]) -> None:
        super().__init__(f"{component} breaks its contract: {'; '.join(problems)}")
        self.component = component
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ContractError], tuple[str, tuple[str, ...]]]:
        # The default would hand the finished message to the constructor; errors cross processes.
        return type(self), (self.component, self.problems)


class PluginError(GeoMagError):
    """A plugin that was asked for is not there or cannot be used."""


class SceneError(GeoMagError):
    """An image cannot be opened or read."""


class PromptError(GeoMagError):
    """A prompt cannot be asked."""


class CheckpointError(GeoMagError):
    """Weights are missing, damaged or of another model."""


class DataError(GeoMagError):
    """A data set is missing or not what it should be."""


class OutputError(GeoMagError):
    """An answer cannot be written."""
