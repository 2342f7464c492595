"""Named pretraining runs.

Run one from the root of the repository::

    python -m recipes.pretrain nano_cpu --data out/pool --out out/nano
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from glocal.train.data.pool import Pool
from glocal.train.pretraining.pretrain import RunOptions, pretrain
from glocal.train.pretraining.recipe import PretrainConfig, Recipe
from msgfm import ObjectiveConfig, base, nano, tiny


def nano_cpu() -> Recipe:
    """Return what one CPU core with bf16 does in two hours, on windows of 64 px."""
    training = PretrainConfig(steps=10_000, batch=64, base_rate=2e-3, warmup=300)
    return Recipe(encoder=nano(), objective=ObjectiveConfig(joint=0.25), training=training)


def nano_looks() -> Recipe:
    """Return the second stage of the packaged weights, which adds the agreement of looks.

    The first, ``nano_cpu``, was stopped after 3,826 steps: its features told scenes apart no better
    than random ones. ``--start`` names the weights of the stage before.
    """
    training = PretrainConfig(steps=1_350, batch=96, base_rate=2e-3, warmup=60, ema=0.99, seed=1)
    return Recipe(
        encoder=nano(), objective=ObjectiveConfig(joint=0.25, agree=1.0), training=training
    )


def nano_more_looks() -> Recipe:
    """Return the third stage of the packaged weights, which goes on from the second."""
    training = PretrainConfig(steps=3_300, batch=96, base_rate=2e-3, warmup=150, ema=0.99, seed=2)
    return replace(nano_looks(), training=training)


def nano_gpu() -> Recipe:
    """Return the same architecture with larger batches for one GPU."""
    training = PretrainConfig(steps=20_000, batch=256, base_rate=6e-4, warmup=1_000)
    return Recipe(encoder=nano(), objective=ObjectiveConfig(), training=training)


def tiny_gpu() -> Recipe:
    """Return a Swin-T with experts for one GPU."""
    training = PretrainConfig(steps=50_000, batch=256, base_rate=3e-4, warmup=2_000)
    return Recipe(encoder=tiny(drop_path=0.1), objective=ObjectiveConfig(), training=training)


def base_paper() -> Recipe:
    """Return the run that msGFM (Han et al., CVPR 2024) describes, as far as it is known.

    800 passes over 2 million images in batches of 2048, windows of 192 px. The learning rate
    and its scaling are those of the code it builds on: 2e-4 per 512, linear.
    """
    passes, images, batch = 800, 2_000_000, 2048
    steps = passes * images // batch
    training = PretrainConfig(
        steps=steps,
        batch=batch,
        base_rate=1e-4,
        rate_rule="linear",
        warmup=steps // 10,
        min_share=0.0125,
        count_power=1.0,
    )
    return Recipe(encoder=base(drop_path=0.1), objective=ObjectiveConfig(), training=training)


RECIPES: dict[str, Callable[[], Recipe]] = {
    one.__name__: one
    for one in (nano_cpu, nano_looks, nano_more_looks, nano_gpu, tiny_gpu, base_paper)
}


def main() -> None:
    """Run a recipe; the same command goes on with an unfinished run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of shards")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, help="stop after this time")
    parser.add_argument("--steps", type=int, help="another length")
    parser.add_argument("--seed", type=int, help="another seed")
    parser.add_argument("--start", help="weights to begin with, instead of random ones")
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]()
    training = recipe.training
    if given.seed is not None:
        training = replace(training, seed=given.seed)
    if given.steps:
        warmup = training.warmup * given.steps // training.steps
        training = replace(training, steps=given.steps, warmup=warmup)
    pool = Pool(given.data)
    options = RunOptions(max_hours=given.hours, card={"origins": pool.origins})
    pretrain(
        replace(recipe, training=training), pool, given.out, options=options, start=given.start
    )


if __name__ == "__main__":
    main()
