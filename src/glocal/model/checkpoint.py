"""Weights on disk: safetensors and a manifest that says what they are; never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glocal.errors import CheckpointError

__all__ = ["FORMAT", "find", "read", "write"]

FORMAT = 1
"""Version of the layout that this code writes; a higher one is refused."""

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth")


def write(
    folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write ``tensors`` and ``about`` to ``folder`` as a whole: it is complete or not there.

    ``half`` stores floating point as bfloat16.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file({k: _stored(v, half) for k, v in tensors.items()}, made / WEIGHTS)
        manifest = {"format": FORMAT, "sha256": _digest(made / WEIGHTS), **about}
        (made / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        _replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (float32) and the manifest of ``folder``.

    Raises
    ------
    CheckpointError
        The folder is incomplete, its hash differs, or its format is newer than this code.
    """
    manifest = _manifest(folder)
    weights = folder / WEIGHTS
    if _digest(weights) != manifest["sha256"]:
        raise CheckpointError(
            f"{weights}: sha256 is not the one of {MANIFEST}; the file is damaged or was "
            "exchanged. Fetch both again"
        )
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is not a safetensors file: {error}") from error
    full = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return full, manifest


def find(source: str | Path) -> Path:
    """Return the folder of packaged weights called ``source``, or ``source`` as a folder."""
    path = Path(source)
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: pickled files can run code and are never loaded; convert it to safetensors"
        )
    packaged = Path(str(resources.files("glocal.model") / "weights"))
    if path.is_dir():
        return path
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


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    pickled = [p.name for p in folder.glob("*") if p.suffix in PICKLES]
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        hint = f"; {pickled[0]} is a pickle, which is never loaded" if pickled else ""
        raise CheckpointError(f"{folder} needs {MANIFEST} and {WEIGHTS}{hint}")
    try:
        manifest = json.loads(path.read_text())
        version = int(manifest["format"])
        manifest["sha256"], manifest["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a manifest: {error!r}") from error
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: format {version} is newer than {FORMAT}, the newest known here; "
            "upgrade glocal"
        )
    return dict(manifest)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    plain = tensor.detach().cpu().contiguous()
    return plain.to(torch.bfloat16) if half and plain.is_floating_point() else plain


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(made: Path, folder: Path) -> None:
    for file in made.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    old = folder.with_name(f".{folder.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
