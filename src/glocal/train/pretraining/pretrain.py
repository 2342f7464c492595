"""The pretraining loop: one process or many, exact resume, nothing hidden between steps.

All that is random in step t is drawn from ``default_rng([seed, t])``: group, chips, input and
target sensor, masked cells. The batch is drawn for all processes and then split, so a resumed
run needs only t, and several processes see together what one would see.

What is equal: on a CPU with the same number of threads, a stopped and resumed run equals an
uninterrupted one bit by bit (on a GPU the order of atomic additions differs). Several processes
follow the losses of one up to rounding, because each weighs its reconstruction by its share of
the masked pixels. The exceptions are what a router computes over the chips of one process: the
balance loss, a mean of products, and which tokens are over capacity.

Run it in several processes with ``torchrun --nproc-per-node 2 -m glocal model pretrain ...``.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from glocal.errors import ConfigError, RunError
from glocal.train.pretraining.checkpoints import (
    latest,
    load_checkpoint,
    restore,
    save_checkpoint,
    state_tensors,
)
from glocal.train.pretraining.draw import ChipPool, digest, draws
from glocal.train.pretraining.learner import Training, begin_with, learner, reduced, update
from glocal.train.pretraining.metrics_log import MetricsLog
from glocal.train.pretraining.recipe import Recipe, differences, resolved_precision, to_json
from msgfm.batch import Batch
from msgfm.objective import Plan

Why = Literal["done", "time", "signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is carried out. No field changes the weights that a finished run finds."""

    max_hours: float | None = None
    """Stop after this wall time, all resumptions counted; more hours go on from there."""

    checkpoint_every: int = 500
    keep: int = 2
    """Newest checkpoints that stay."""

    flush_every: int = 20
    """Steps between writes of the log, when also the loss is checked to be finite."""

    readers: int = 1
    """Threads that prepare batches in advance; 0 prepares each when it is needed."""

    tensorboard: bool = True
    card: Mapping[str, Any] = field(default_factory=dict)
    """Goes into the manifest of the weights: data, licences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps done, over all resumptions."""

    why: Why
    """``done``: all steps; ``time``: the hours are over; ``signal``: asked to stop."""

    weights: Path
    """Folder of the averaged weights, for ``Encoder.from_pretrained``."""

    seconds: float
    """Wall time over all resumptions."""

    first: bool
    """False in all processes but the first, which should be silent."""


def pretrain(
    recipe: Recipe,
    pool: ChipPool,
    out: Path,
    *,
    options: RunOptions | None = None,
    teacher: tuple[Callable[[Batch], Tensor], int] | None = None,
    start: str | Path | None = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Outcome:
    """Train until the recipe, the time or the user says stop; go on if ``out`` has a checkpoint.

    Writes ``metrics.jsonl``, ``checkpoints/`` and ``weights/`` (the running average) to ``out``.
    SIGTERM and Ctrl-C finish the step and write a checkpoint.

    ``teacher`` is a frozen model of images and its width (:mod:`glocal.train.pretraining.distil`),
    ``start`` names weights to begin with instead of random ones: ``nano``, or a folder;
    ``progress`` is called with a text and the share of the steps that is done.

    Raises
    ------
    ConfigError
        When ``out`` belongs to another recipe or other data (the text names the fields), or the
        batch can't be shared out evenly among the processes.
    CheckpointError
        When the newest checkpoint or ``start`` is damaged, or ``start`` of another architecture.
    RunError
        When the loss is not finite, or the disk is full.
    """
    options = options or RunOptions()
    with _stop_asked() as asked, warnings.catch_warnings():
        # single batches of snow, sea or cloud are no news while training
        warnings.filterwarnings("ignore", message="sensor .* (is far from|is below)")
        learning = learner(recipe, *(teacher or ()))
        # what must be the same when a run goes on
        precision = resolved_precision(recipe.training.precision, learning.fabric.device)
        exact = replace(recipe, training=replace(recipe.training, precision=precision))
        facts = {
            "recipe": to_json(exact),
            "data": digest(pool, recipe),
            "teacher_width": teacher[1] if teacher else 0,
            "start": begin_with(learning, start),
        }
        step, seconds = _resume(learning, out / "checkpoints", facts)
        files = _Files(learning, out, options, facts, step, seconds)
        why: Why = "done"
        for drawn in draws(pool, recipe, step, options.readers):
            files.add(step, drawn.plan, update(learning, recipe.training, drawn, step))
            step += 1
            files.keep(step)
            progress(f"step {step} of {recipe.training.steps}", step / recipe.training.steps)
            why = files.why(step, asked())
            if why != "done":
                break
        return files.finish(step, why if step < recipe.training.steps else "done")


def _resume(learning: Training, folder: Path, facts: Mapping[str, Any]) -> tuple[int, float]:
    """Load the newest checkpoint, if any; return the steps and the seconds behind it."""
    path = latest(folder)
    if path is None:
        return 0, 0.0
    tensors, saved = load_checkpoint(path)
    changed = differences({name: saved.get(name) for name in facts}, facts)
    if changed:
        raise ConfigError(
            f"{folder.parent} belongs to another run: {'; '.join(changed)}. "
            "Repeat its options to go on with it, or choose another folder"
        )
    restore(tensors, learning.objective, learning.average, learning.optimizer)
    return int(saved["step"]), float(saved["seconds"])


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM or Ctrl-C came; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Python gives signals to the main thread only
        return
    old = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}

    def put_back() -> None:
        for kind, handler in old.items():
            signal.signal(kind, handler)

    def note(number: int, frame: object) -> None:
        asked.set()
        put_back()

    for kind in old:
        signal.signal(kind, note)
    try:
        yield asked.is_set
    finally:
        put_back()


class _Files:
    """What a run leaves on disk; of several processes the first one writes."""

    def __init__(
        self,
        learning: Training,
        out: Path,
        options: RunOptions,
        facts: Mapping[str, Any],
        step: int,
        seconds: float,
    ) -> None:
        self._learning, self._out, self._options, self._facts = learning, out, options, facts
        self._started = time.monotonic() - seconds
        self._saved = step if (out / "weights").exists() else -1
        self._waiting: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        self._log: MetricsLog | None = None
        if learning.fabric.is_global_zero:
            self._log = MetricsLog(out, step, board=options.tensorboard)

    def seconds(self) -> float:
        """Return the wall time of the run, resumptions counted."""
        return time.monotonic() - self._started

    def why(self, step: int, asked: bool) -> Why:
        """Return why all processes stop now, or "done" while they go on."""
        hours, fabric = self._options.max_hours, self._learning.fabric
        late = hours is not None and self.seconds() >= 3600 * hours
        if fabric.world_size > 1:
            if step % 10:  # asking each other makes the device wait
                return "done"
            # any process may be told to stop; of the clocks that of the first counts
            votes = torch.tensor([asked, late and fabric.is_global_zero], device=fabric.device)
            asked, late = (reduced(votes.float(), "sum", fabric) > 0).tolist()
        return "signal" if asked else "time" if late else "done"

    def add(self, step: int, plan: Plan, losses: dict[str, Tensor]) -> None:
        """Remember a step; its tensors are read later, so that the device never waits."""
        about = {
            "step": step,
            "plan": f"{'+'.join(plan.sources)}>{plan.target}",
            "rate": self._learning.optimizer.param_groups[0]["lr"],
            "seconds": round(self.seconds(), 2),
        }
        self._waiting.append((about, losses))

    def keep(self, step: int) -> None:
        """Write what is due after ``step`` steps."""
        due = step % self._options.checkpoint_every == 0
        if due or step % self._options.flush_every == 0:
            self._flush()
        if due:
            self._checkpoint(step)

    def finish(self, step: int, why: Why) -> Outcome:
        """Write the rest, and close."""
        self._flush()
        seconds = self.seconds()  # as the checkpoint will say, from which a run goes on
        self._checkpoint(step)
        if self._log is not None:
            self._log.close()
        return Outcome(
            step=step,
            why=why,
            weights=self._out / "weights",
            seconds=seconds,
            first=self._log is not None,
        )

    def _flush(self) -> None:
        """Log the waiting steps: means over the processes, the number of values their sum."""
        if not self._waiting:
            return
        names = list(self._waiting[0][1])
        sizes = [self._waiting[0][1][name].numel() for name in names]
        table = torch.stack(
            [torch.cat([one[name].float().flatten() for name in names]) for _, one in self._waiting]
        )
        fabric = self._learning.fabric
        seen = reduced(table, "mean", fabric).cpu().numpy()
        columns = dict(zip(names, np.split(seen, np.cumsum(sizes)[:-1], axis=1), strict=True))
        columns["values"] = columns["values"] * fabric.world_size
        rows = []
        for i, (about, _) in enumerate(self._waiting):
            values = {name: column[i].tolist() for name, column in columns.items()}
            rows.append(about | {n: v[0] if len(v) == 1 else v for n, v in values.items()})
        self._waiting = []
        self._refuse_infinite(rows)
        if self._log is not None:
            self._log.write(rows)

    def _refuse_infinite(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if not (math.isfinite(row["total"]) and math.isfinite(row["norm"])):
                raise RunError(
                    f"the loss of step {row['step']} ({row['plan']}) is {row['total']}, its "
                    f"gradient {row['norm']}; the last checkpoint in {self._out} is from before. "
                    "Start anew with a smaller base_rate or more warm-up, in another folder"
                )

    def _checkpoint(self, step: int) -> None:
        if step == self._saved:
            return
        self._saved = step
        learning, options = self._learning, self._options
        if self._log is not None:
            tensors = state_tensors(learning.objective, learning.average, learning.optimizer)
            facts = {**self._facts, "step": step, "seconds": self.seconds()}
            learning.average.save_pretrained(
                self._out / "weights", steps=step, recipe=self._facts["recipe"], **options.card
            )
            save_checkpoint(self._out / "checkpoints", tensors, facts, keep=options.keep)
        learning.fabric.barrier()
