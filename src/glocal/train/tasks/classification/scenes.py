"""Labelled pictures in a folder per class, the way most scene collections come."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from glocal.errors import BadSourceError, SourceUnavailableError

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenes:
    """N pictures of one size with one class each, in the order of their names."""

    names: tuple[str, ...]
    """File name without its suffix; unique."""

    classes: tuple[str, ...]
    """Names of the folders, sorted."""

    labels: NDArray[np.int64]
    """Shape (N,), index into ``classes``."""

    images: NDArray[np.uint8]
    """Shape (N, 3, H, W), red, green, blue, 0-255."""

    def __len__(self) -> int:
        return len(self.names)

    def rgb(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Return images as the models want them: shape (n, 3, H, W), 0-1."""
        return self.images[rows].astype(np.float32) / np.float32(255)


def read_scenes(path: Path, *, limit: int | None = None) -> Scenes:
    """Read the JPEG and PNG files of a folder or zip file; the parent folder is the class.

    Files may lie at any depth, at least one folder deep. ``limit`` keeps so many pictures of each
    class, the first by name; ``None`` keeps all.

    Raises
    ------
    SourceUnavailableError
        ``path`` does not exist, or it or one of its pictures can't be read.
    BadSourceError
        No picture, only one class, two files of one name, or pictures of several sizes.
    """
    path = Path(path)
    if not path.exists():
        raise SourceUnavailableError(f"pictures are read from a folder or zip; {path} is missing")
    listed = sorted(_listed(path), key=lambda file: (file.parent.name, file.name))
    groups = groupby(listed, key=lambda file: file.parent.name)
    chosen = [file for _, files in groups for file in islice(files, limit)]
    classes = tuple(sorted({file.parent.name for file in chosen}))
    if len(classes) < 2:
        raise BadSourceError(
            f"{path} must hold at least two folders (classes) of {', '.join(SUFFIXES)} files, "
            f"found {len(chosen)} file(s) in {len(classes)} folder(s)"
        )
    names = tuple(file.stem for file in chosen)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadSourceError(
            f"names of pictures must be unique in {path}, {twice!r} occurs more than once; "
            "rename one of them"
        )
    labels = np.array([classes.index(file.parent.name) for file in chosen])
    return Scenes(names=names, classes=classes, labels=labels, images=_stack(path, chosen))


def _listed(path: Path) -> Iterator[PurePosixPath]:
    """Yield the pictures of the folder or archive, relative to it."""
    if path.is_dir():
        found: list[str] = [str(file.relative_to(path)) for file in path.rglob("*")]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                found = archive.namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise SourceUnavailableError(
                f"{path} is neither a folder nor a zip: {error}"
            ) from error
    for name in found:
        file = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) for part in file.parts)
        if file.suffix.lower() in SUFFIXES and len(file.parts) > 1 and not hidden:
            yield file


def _stack(path: Path, files: list[PurePosixPath]) -> NDArray[np.uint8]:
    """Decode every picture into one array, shape (N, 3, H, W)."""
    images: NDArray[np.uint8] | None = None
    with nullcontext() if path.is_dir() else zipfile.ZipFile(path) as archive:
        for row, file in enumerate(files):
            content = archive.read(str(file)) if archive else (path / file).read_bytes()
            try:
                with Image.open(io.BytesIO(content)) as picture:
                    pixels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
            except (UnidentifiedImageError, OSError) as error:
                raise SourceUnavailableError(
                    f"{file} in {path} can't be decoded: {error}"
                ) from error
            if images is None:
                images = np.empty((len(files), *pixels.shape), dtype=np.uint8)
            if pixels.shape != images.shape[1:]:
                raise BadSourceError(
                    f"all pictures must have one size; {file} has {pixels.shape[1:]}, the first "
                    f"{images.shape[2:]} (height, width); resample or cut them"
                )
            images[row] = pixels
    assert images is not None  # the caller found at least two classes
    return images
