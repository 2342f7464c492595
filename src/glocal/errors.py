"""The exceptions of Glocal, one small tree.

Every error says the rule, the value, the limit and the next step, and keeps the
values as attributes where a program could use them::

    GlocalError
    ├── ConfigError(ValueError)             area.yaml or a command-line option
    ├── SourceUnavailableError(OSError)     a file is missing, truncated or unreadable
    ├── BadSourceError(ValueError)          a file was read but its content breaks a rule
    │   ├── UnitError                       values outside the range of their unit
    │   ├── GridMismatchError               CRS or area do not fit
    │   └── LegendMismatchError             a code that the legend does not know
    ├── UnknownSensorError(KeyError)        no such sensor or band in the table
    ├── LicenceConflictError(ValueError)    evidence that the receiver may not accept
    ├── RunError(RuntimeError)              the run folder is not what it should be
    └── MissingExtraError(ImportError)      an optional package is not installed

The encoder has a tree of its own, ``msgfm.errors``.
"""

from __future__ import annotations

WITH_ENCODER = ("all", "dev", "model", "openvino", "train")
"""Extras that need the package msgfm, which no registry has: it is given by its path."""


class GlocalError(Exception):
    """Root of every error that Glocal raises on purpose."""


class ConfigError(GlocalError, ValueError):
    """A field of ``area.yaml`` or an option breaks a rule."""


class SourceUnavailableError(GlocalError, OSError):
    """A file is missing, truncated or not of the format it claims."""


class BadSourceError(GlocalError, ValueError):
    """A file was read, but its content can't be used as it is."""


class UnitError(BadSourceError):
    """Values lie outside the range that their unit allows."""


class GridMismatchError(BadSourceError):
    """A CRS is missing or two areas do not overlap."""


class LegendMismatchError(BadSourceError):
    """A raster or table holds codes that its legend does not name."""


class UnknownSensorError(GlocalError, KeyError):
    """A sensor or band is not in the table."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LicenceConflictError(GlocalError, ValueError):
    """Evidence under a licence that the receiver of a correction can't accept."""


class RunError(GlocalError, RuntimeError):
    """A run folder is damaged, or belongs to another configuration."""


class MissingExtraError(GlocalError, ImportError):
    """An optional package is needed; the message gives the exact install line."""


def install_line(extra: str) -> str:
    """Return what to type, in the folder of the source code, to get an extra.

    >>> install_line("model")
    "pip install -e packages/msgfm -e '.[model]'"
    """
    encoder = "-e packages/msgfm " if extra in WITH_ENCODER else ""
    return f"pip install {encoder}-e '.[{extra}]'"
