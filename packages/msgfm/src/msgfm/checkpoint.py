"""Weights on disk: safetensors and a manifest that says what they are; never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msgfm.errors import CheckpointError

FORMAT = 1
"""Version of the layout that this code writes; a higher one is refused."""

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
SMALL = 4096
"""Values of a tensor that is always stored as it is: constants, norms and biases weigh nothing."""

PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth")


def write(
    folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write ``tensors`` and ``about`` to ``folder`` as a whole; a killed write leaves the old one.

    ``half`` stores tensors of more than `SMALL` values as bfloat16. One process may write at a
    time.

    Raises
    ------
    CheckpointError
        The folder holds other files, which would be lost.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    with replacing(folder) as made:
        stored = {}
        for name, tensor in tensors.items():
            plain = tensor.detach().cpu().contiguous()
            # bfloat16 has the range of float32, so that no weight overflows, and half the bytes
            large = half and plain.is_floating_point() and plain.numel() > SMALL
            stored[name] = plain.to(torch.bfloat16) if large else plain
        save_file(stored, made / WEIGHTS)
        manifest = {"format": FORMAT, "sha256": digest(made / WEIGHTS), **about}
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (made / MANIFEST).write_text(text, encoding="utf-8")
        shutil.copymode(made / MANIFEST, made / WEIGHTS)  # safetensors lets only the owner read


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (float32) and the manifest of ``folder``.

    Raises
    ------
    CheckpointError
        The folder is incomplete, its hash differs, or its format is newer than this code.
    """
    manifest = _manifest(folder)
    weights = folder / WEIGHTS
    if digest(weights) != manifest["sha256"]:
        raise CheckpointError(
            f"{weights}: sha256 is not the one of {MANIFEST}; the file is damaged or was "
            "exchanged. Fetch both again"
        )
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is not a safetensors file: {error}") from error
    # in 32 bits again: the optimiser's small steps would vanish in bfloat16's eight bits
    full = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return full, manifest


def find(source: str | Path) -> Path:
    """Return the folder of packaged weights called ``source``, or ``source`` as a folder."""
    path = Path(source)
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: pickled files can run code and are never loaded; convert it to safetensors"
        )
    packaged = Path(str(resources.files("msgfm") / "weights"))
    if path.is_dir():
        return path
    if _old(path).is_dir():  # a write was killed between its two renames
        return _old(path)
    if (packaged / str(source) / MANIFEST).is_file():
        return packaged / str(source)
    names = sorted(p.parent.name for p in packaged.glob(f"*/{MANIFEST}"))
    raise CheckpointError(
        f"no weights called {str(source)!r} and no such folder; packaged: {', '.join(names)}"
    )


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put ``tensors`` into ``module``; both must have the same names and shapes."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{source}: weights are of another architecture: {error}") from error


@contextmanager
def usable(source: Path) -> Iterator[None]:
    """Say which folder it is when what its manifest describes can't be made."""
    try:
        yield
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: the manifest's config can't be used: {error}") from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    pickled = [p.name for p in folder.glob("*") if p.suffix in PICKLES]
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        hint = f"; {pickled[0]} is a pickle, which is never loaded" if pickled else ""
        raise CheckpointError(f"{folder} needs {MANIFEST} and {WEIGHTS}{hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = int(manifest["format"])
        manifest["sha256"], manifest["config"]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a manifest: {error!r}") from error
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: format {version} is newer than {FORMAT}, the newest known here; upgrade msgfm"
        )
    return dict(manifest)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(folder: Path) -> None:
    """Wait until the files of a folder are on the disk."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` at the end, unless something goes wrong."""
    # Written beside the folder and renamed at the end: a name stands for a whole, or for nothing.
    made = folder.with_name(f".{folder.name}-part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        flush(made)
        # A folder can't be replaced in one step. Between the two renames the old one is still
        # found under its other name, see `find`.
        if folder.exists():
            shutil.rmtree(_old(folder), ignore_errors=True)
            folder.rename(_old(folder))
        made.rename(folder)
        shutil.rmtree(_old(folder), ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-old")


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; name a folder that is new or holds weights")
    foreign = {p.name for p in folder.glob("*")} - {WEIGHTS, MANIFEST}
    if foreign:
        raise CheckpointError(
            f"{folder} holds {', '.join(sorted(foreign)[:3])}, which would be lost; "
            "name a folder that is new or holds weights alone"
        )
