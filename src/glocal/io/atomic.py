"""Files appear whole or not at all: write beside, flush, rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glocal.errors import GlocalError, RunError

PART = ".part"
"""Is in the name of whatever is not finished."""

FULL = 1 << 20
"""Free bytes of a disk below which an error while writing is blamed on it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only when the block succeeds.

    The temporary name keeps the suffix, so that drivers which look at it still work.

    Raises
    ------
    RunError
        When the disk is full or not writable; the old file, if any, is untouched.
    """
    part = path.with_name(f"{path.stem}{PART}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
    except GlocalError:
        raise
    except Exception as error:
        # Drivers have exceptions of their own for what the system refuses.
        folder = path.parent
        full = folder.is_dir() and shutil.disk_usage(folder).free < FULL
        if full or isinstance(error, OSError):
            raise _refused(path, error) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _refused(path: Path, error: Exception) -> RunError:
    return RunError(
        f"could not write {path}: {error}; free some space or choose another folder, "
        "then run the same command again: finished parts are kept"
    )


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises ``RunError``: the disk is full or not writable.
    """
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it takes the place of ``path`` when the block succeeds."""
    part = path.with_name(path.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
    except GlocalError:
        raise
    except OSError as error:
        raise _refused(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text with line feeds as line ends, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: two-space indent, sorted keys, no NaN."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")
