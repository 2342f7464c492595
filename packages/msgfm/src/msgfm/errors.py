"""The exceptions of msgfm: each says the rule, the value, the limit and the next step."""

from __future__ import annotations


class MsgfmError(Exception):
    """Root of every error that this package raises of its own."""


class InputError(MsgfmError, ValueError):
    """Arrays can't be used as they are."""


class InputUnitError(InputError):
    """Values lie outside the range that their unit allows."""


class InputSizeError(InputError):
    """Sizes do not fit: of two sensors of a batch, or of an exported graph."""


class SensorError(MsgfmError, KeyError):
    """A sensor or band is not in the table, or the encoder was made without it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CheckpointError(MsgfmError, ValueError):
    """Saved weights are damaged, of another architecture, or from a newer version."""
