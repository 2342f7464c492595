"""Checkpoints of a training run: a folder per step, tensors and facts, never a pickle.

``step-00000500/state.safetensors`` holds the model (``model.*``), its running average
(``average.*``) and the state of AdamW (``step.*``, ``exp_avg.*``, ``exp_avg_sq.*``);
``state.json`` the step, the recipe and the digest of the data. A folder appears whole or
not at all.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from glocal.io.atomic import replacing_folder
from msgfm.checkpoint import digest, flush
from msgfm.errors import CheckpointError

FORMAT = 1
FOLDER = re.compile(r"step-(\d{8})")
TENSORS, FACTS = "state.safetensors", "state.json"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def state_tensors(model: nn.Module, average: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return everything that the next step depends on, by name.

    Frozen parameters and buffers are constants, which the recipe gives back.
    """
    found = {f"average.{name}": one.detach() for name, one in average.named_parameters()}
    for name, parameter in _trainable(model):
        found[f"model.{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{key}.{name}"] = value
    return found


def restore(
    tensors: Mapping[str, Tensor], model: nn.Module, average: nn.Module, optimizer: Optimizer
) -> None:
    """Put saved tensors back, in place; the inverse of :func:`state_tensors`."""
    mine = {f"model.{name}": tuple(value.shape) for name, value in _trainable(model)}
    theirs = {k: tuple(v.shape) for k, v in tensors.items() if k.startswith("model.")}
    if mine != theirs:
        odd = sorted({name for name, _ in mine.items() ^ theirs.items()})
        raise CheckpointError(
            f"the checkpoint is of another architecture; {len(odd)} tensors differ, first "
            f"{odd[:3]}; use the version of glocal that wrote it, or another folder"
        )
    with torch.no_grad():
        for name, slow in average.named_parameters():
            slow.copy_(tensors[f"average.{name}"])
        for name, parameter in _trainable(model):
            parameter.copy_(tensors[f"model.{name}"])
            saved = {key: tensors[f"{key}.{name}"] for key in MOMENTS if f"{key}.{name}" in tensors}
            if saved:
                optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in saved.items()}


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad]


def save_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write a checkpoint of ``facts["step"]`` and remove all but the ``keep`` newest.

    Where the disk is full or not writable older checkpoints are untouched (`replacing_folder`).
    """
    path = folder / f"step-{facts['step']:08d}"
    with replacing_folder(path) as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part / TENSORS)
        text = {**facts, "format": FORMAT, "sha256": digest(part / TENSORS)}
        (part / FACTS).write_text(json.dumps(text, indent=2, sort_keys=True) + "\n", "utf-8")
        flush(part)
    for _, old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def _all(folder: Path) -> list[tuple[int, Path]]:
    found = [(FOLDER.fullmatch(path.name), path) for path in folder.glob("step-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder, None when there is none."""
    found = _all(folder)
    return found[-1][1] if found else None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the facts of a checkpoint.

    Raises
    ------
    CheckpointError
        When a file is missing, damaged, or of a newer version.
    """
    try:
        facts = json.loads((path / FACTS).read_text("utf-8"))
        if facts["format"] > FORMAT:
            raise CheckpointError(
                f"{path} has format {facts['format']}, this version reads up to {FORMAT}; "
                "update glocal"
            )
        if digest(path / TENSORS) != facts["sha256"]:
            raise ValueError(f"the sha256 of {TENSORS} is not the one in {FACTS}")
        return load_file(path / TENSORS), facts
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is damaged: {error}; delete this folder to go on from the "
            "one before it"
        ) from error
