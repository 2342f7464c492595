"""What the parts of pretraining are worth, at a small scale: many short runs, frozen encoders.

    python -m benchmarks.model_ablations train --pool POOL --out out/ablations [--teacher FILE]
    python -m benchmarks.model_ablations evaluate --data ../shared/data --out out/ablations
        [--save model_ablations]

Both phases go on where they stopped. Every setting differs from `REFERENCE` in one thing, and all
see the same number of chips; "paired only" and "unpaired only" draw them from a part of the pool.
All tasks are read by linear maps in closed form (scenes: logistic regression), so that no luck of
an optimiser is in their scores. A teacher is a TorchScript file of a network that maps photos
(B, 3, H, W), normalised as ImageNet, to (B, D) or (B, D, h, w).
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.ablation_tasks import (
    Dense,
    Features,
    Pictures,
    encoded,
    flanders,
    nothing,
    pixels,
    read_dense,
    sharpening,
    terramind,
)
from benchmarks.stored import Column, Table, add_save, keep, pivot
from glocal.errors import ConfigError
from glocal.io.atomic import write_json
from glocal.train.data.pool import Pool
from glocal.train.pretraining.distil import Teacher, as_photo
from glocal.train.pretraining.draw import ChipPool
from glocal.train.pretraining.pretrain import RunOptions, pretrain
from glocal.train.pretraining.recipe import PretrainConfig, Recipe
from glocal.train.tasks.classification.classify import embed_all
from glocal.train.tasks.classification.statistics import band_statistics
from glocal.train.tasks.dense import seeded
from msgfm import Encoder, EncoderConfig, ObjectiveConfig

REFERENCE = Recipe(
    encoder=EncoderConfig(
        width=16, depths=(1, 1, 4, 1), heads=(2, 4, 4, 8), window=4, experts=4, capacity=None
    ),
    objective=ObjectiveConfig(),
    training=PretrainConfig(
        steps=180,
        batch=32,
        base_rate=1e-3 * 8**0.5,
        warmup=18,
        ema=0.99,
        count_power=0.15,
        precision="32-true",
    ),
)
"""Peak rate 1e-3; the weak power gives the pairs, 1 % of the pool, a third of the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The groups of a pool that pass a test, as a pool."""

    pool: ChipPool
    passes: Callable[[tuple[str, ...]], bool]

    @property
    def groups(self) -> dict[tuple[str, ...], int]:
        """Return the groups that pass, with their numbers of chips."""
        return {group: n for group, n in self.pool.groups.items() if self.passes(group)}

    def draw(self, sensors: tuple[str, ...], n: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return chips of a group, as the whole pool does."""
        return self.pool.draw(sensors, n, rng)


class Setting(NamedTuple):
    """What differs from the reference."""

    about: str
    objective: Mapping[str, Any] = {}
    experts: int = REFERENCE.encoder.experts
    passes: Callable[[tuple[str, ...]], bool] = lambda group: True


SETTINGS = {
    "reference": Setting("cross ½, 4 experts, all data, from scratch"),
    "cross 0": Setting("a pair only repaints its input", {"cross": 0.0}),
    "cross 1": Setting("a pair only paints its partner", {"cross": 1.0}),
    "dense": Setting("1 expert: same active parameters", experts=1),
    "paired only": Setting("groups of several sensors", passes=lambda group: len(group) > 1),
    "unpaired only": Setting("groups of one sensor", passes=lambda group: len(group) == 1),
    "distilled": Setting("weight 1 on agreement with a teacher", {"distil": 1.0}),
}
RANDOM = "random encoder"
FLOORED = ("mean of the training part", "pixels, colour statistics")
"""Floors without an encoder: no feature at all, and a token's own pixels."""

DIGITS = 4
ARROWS = {"accuracy": "↑", "mIoU": "↑", "MAE": "↓", "ERGAS": "↓"}


def folder_of(out: Path, setting: str, seed: int) -> Path:
    """Return where a run lies."""
    return out / setting.replace(" ", "-") / str(seed)


# Evaluation -----------------------------------------------------------------


def evaluate(data: Path, out: Path, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Table]:
    """Score the floors and every finished run that has no scores yet; return the tables."""
    dense = [*terramind(data), *flanders(data), *sharpening(data)]
    pictures = Pictures.read(data / "eurosat-rgb")
    write_json(out / "counts.json", pictures.counts())
    _keep(out, FLOORED[0], 0, lambda: _scores(dense, nothing, pictures, None))
    colours = band_statistics(pictures.images)
    _keep(out, FLOORED[1], 0, lambda: _scores(dense, pixels, pictures, colours))
    for seed in seeds:
        for name in (RANDOM, *names):
            encoder = _encoder(name, seed, folder_of(out, name, seed))
            if encoder is not None:
                _keep(out, name, seed, partial(_of_encoder, encoder, dense, pictures))
    return tables(out, [*FLOORED, RANDOM, *SETTINGS])


def _of_encoder(
    encoder: Encoder, dense: Sequence[Dense], pictures: Pictures
) -> list[dict[str, Any]]:
    vectors = embed_all(encoder, {"rgb": pictures.images})
    return _scores(dense, encoded(encoder), pictures, vectors)


def _keep(out: Path, name: str, seed: int, scores: Callable[[], list[dict[str, Any]]]) -> None:
    """Write the scores of a run, unless they are there."""
    path = folder_of(out, name, seed) / "scores.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, scores())
        print(path, flush=True)


def _encoder(name: str, seed: int, folder: Path) -> Encoder | None:
    """Return the encoder of a finished run, None where it is not finished."""
    if name == RANDOM:
        with seeded(1000 + seed):
            return Encoder(REFERENCE.encoder).eval()
    weights = folder / "weights"
    if not weights.exists():
        return None
    card = json.loads((weights / "manifest.json").read_text("utf-8"))["card"]
    finished = card["steps"] == card["recipe"]["training"]["steps"]
    return Encoder.from_pretrained(weights) if finished else None


def _scores(
    dense: Sequence[Dense],
    features: Features,
    pictures: Pictures,
    vectors: NDArray[np.float32] | None,
) -> list[dict[str, Any]]:
    found = [
        {"task": one.task, "case": one.case, "score": name, "value": value}
        for one in dense
        for name, value in read_dense(features, one).items()
    ]
    value = pictures.accuracy(vectors)
    about = {"task": "scenes (EuroSAT)", "case": "test blocks", "score": "accuracy"}
    return [{**about, "value": value}, *found]


def tables(out: Path, names: Sequence[str]) -> dict[str, Table]:
    """Return scores, differences from the reference of the same seed, and scores by case.

    Smallest to largest are over seeds, each a mean over cases; by case: the mean over seeds.
    """
    read = {name: scores_of(out, name) for name in names}
    every = {name: one for name, one in read.items() if one}
    mean = {name: {seed: means(rows) for seed, rows in one.items()} for name, one in every.items()}
    first = mean.get("reference", {})
    gains = {
        name: {seed: less(values, first[seed]) for seed, values in one.items() if seed in first}
        for name, one in mean.items()
        if name in SETTINGS and name != "reference"
    }
    cases: dict[tuple[str, str], list[float]] = {}
    for name, one in every.items():
        for row in (row for rows in one.values() for row in main_scores(rows)):
            cases.setdefault((f"{row['task']}: {row['case']}", name), []).append(row["value"])
    each = ((case, name, statistics.mean(values)) for (case, name), values in cases.items())
    return {
        "scores": by_task(mean, signed=False),
        "less-the-reference": by_task(gains, signed=True),
        "cases": pivot("case", [Column(name=name, digits=DIGITS) for name in every], each),
    }


Rows = Sequence[Mapping[str, Any]]


def scores_of(out: Path, name: str) -> dict[int, Rows]:
    """Return the scores of each seed of a setting that has been evaluated."""
    paths = sorted(folder_of(out, name, 0).parent.glob("*/scores.json"))
    return {int(path.parent.name): json.loads(path.read_text("utf-8")) for path in paths}


def main_scores(rows: Rows) -> list[Mapping[str, Any]]:
    """Return the first score of each case."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        found.setdefault((row["task"], row["case"]), row)
    return list(found.values())


def means(rows: Rows) -> dict[str, float]:
    """Return the mean over cases of each task's main score."""
    found: dict[str, list[float]] = {}
    for row in main_scores(rows):
        name = f"{row['task']}: {row['score']} {ARROWS[row['score']]}"
        found.setdefault(name, []).append(row["value"])
    return {name: statistics.mean(values) for name, values in found.items()}


def less(values: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return what is left when another mapping's values are taken away."""
    return {name: value - other[name] for name, value in values.items()}


def by_task(cells: Mapping[str, Mapping[int, Mapping[str, float]]], *, signed: bool) -> Table:
    """Return a table of settings (rows) and tasks (columns): setting -> seed -> task -> value."""
    values = [
        (setting, task, value)
        for setting, seeds in cells.items()
        for tasks in seeds.values()
        for task, value in tasks.items()
    ]
    tasks = dict.fromkeys(task for _, task, _ in values)
    columns = [Column(name=task, digits=DIGITS, signed=signed) for task in tasks]
    return pivot("setting", columns, values)


# Training -------------------------------------------------------------------


def train(
    pool: ChipPool,
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    teacher: Teacher | None,
) -> None:
    """Pretrain every setting with every seed, or go on with it; seed by seed."""
    for seed in seeds:
        for name in names:
            setting = SETTINGS[name]
            taught = setting.objective.get("distil", 0) > 0
            if taught and teacher is None:
                raise ConfigError(f"the setting {name!r} needs --teacher FILE")
            done = pretrain(
                recipe_of(setting, seed, steps),
                Part(pool=pool, passes=setting.passes),
                folder_of(out, name, seed),
                options=RunOptions(checkpoint_every=10 * steps, keep=1, tensorboard=False),
                teacher=(teacher, teacher.width) if taught and teacher else None,
            )
            print(f"{name}, seed {seed}: {done.step} steps, {done.seconds:.0f} s", flush=True)
            if done.why != "done":
                return


def recipe_of(setting: Setting, seed: int, steps: int) -> Recipe:
    """Return the recipe of a run."""
    training = replace(REFERENCE.training, seed=seed, steps=steps, warmup=steps // 10)
    return Recipe(
        encoder=replace(REFERENCE.encoder, experts=setting.experts),
        objective=replace(REFERENCE.objective, **setting.objective),
        training=training,
    )


class Scripted(nn.Module):
    """A TorchScript file as a plain module, whose parameters are not its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(path)  # type: ignore[no-untyped-call]
        self._call = (script.eval(),)  # in a tuple: scripts can't be frozen

    def forward(self, images: Tensor) -> Tensor:
        """Return what the script answers."""
        answer: Tensor = self._call[0](images)
        return answer


def teacher_from(path: Path) -> Teacher:
    """Read a teacher; its width is that of an answer."""
    module = Scripted(path)
    width = module(torch.zeros(1, 3, 64, 64)).shape[1]
    return Teacher(module=module, width=int(width), look=as_photo)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phase", choices=("train", "evaluate"))
    parser.add_argument("--out", type=Path, default=Path("out/ablations"))
    parser.add_argument("--pool", type=Path, nargs="+", help="folders of shards, for train")
    parser.add_argument("--data", type=Path, help="shared data, for evaluate")
    parser.add_argument("--teacher", type=Path, help="TorchScript file, for the distilled setting")
    parser.add_argument("--only", nargs="+", choices=tuple(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=REFERENCE.training.steps)
    add_save(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.phase == "train":
        teacher = teacher_from(given.teacher) if given.teacher else None
        train(
            Pool(given.pool), given.out, given.only, given.seeds, steps=given.steps, teacher=teacher
        )
    else:
        keep(given.save, evaluate(given.data, given.out, given.only, given.seeds), given.seeds)


if __name__ == "__main__":
    main()
