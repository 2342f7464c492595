r"""Weights that go into the package: half precision, a model card, a STAC item.

Run from the root of the repository::

    python -m recipes.release --run out/nano --pool out/pool \
        --to packages/msgfm/src/msgfm/weights/nano

``--run`` may be repeated for a run that began with the weights of another; the last one ships.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glocal import __version__
from glocal.train.data.pool import Pool
from glocal.train.data.shards import read_header
from msgfm import MSGFM
from msgfm.sensors import bands_of
from recipes.pool import ORIGINS

LIMIT_MB = 25
UNITS = {"rgb": "0 to 1", "s2": "reflectance 0 to 1", "sar": "dB", "dsm": "m"}
KNOWN = (
    "Seen in pretraining without labels: Sentinel-2 and radar of the WorldCereal sites and of "
    "BigEarthNet's sample patches, and EuroSAT patches outside the test blocks of split seed 0.",
    "Radar, heights and pairs are few (some hundred windows): features of RGB and Sentinel-2 are "
    "better founded.",
    "Heights are read relative to the mean of the chip; the absolute height is not seen.",
    "Level-1C and Level-2A share one embedding; the model is not told which one it gets.",
    "Trained on windows of 64 px: larger images work, but no training saw them.",
)


def card(runs: Sequence[Path], pool: Path) -> dict[str, Any]:
    """Return what a user must know of the weights of the last run, trained on ``pool``."""
    counts: Counter[str] = Counter()
    for path in sorted(pool.glob("*.npz")):
        header = read_header(path)
        counts.update(dict(zip(header["origins"], header["counts"], strict=True)))
    return {
        "name": "glocal msGFM nano",
        "licence": "Apache-2.0",
        "version": __version__,
        "task": "features of RGB, Sentinel-2, Sentinel-1 and height images; masked modelling",
        "stages": [stage(run) for run in runs],
        "data": [
            {
                "origin": name,
                "folder": ORIGINS[name].folder or name,
                "licence": ORIGINS[name].licence,
                "credit": ORIGINS[name].credit,
                "windows": int(count),
            }
            for name, count in sorted(counts.items())
        ],
        "held_out": {n: o.held_out for n, o in sorted(ORIGINS.items()) if o.held_out},
        "limits": list(KNOWN),
    }


def stage(run: Path) -> dict[str, Any]:
    """Return recipe, steps and wall time of a run."""
    saved = json.loads((run / "weights" / "manifest.json").read_text())["card"]
    state = sorted((run / "checkpoints").glob("*/state.json"))[-1]
    hours = json.loads(state.read_text())["seconds"] / 3600
    return {
        "recipe": saved["recipe"],
        "steps": saved["steps"],
        "hours": round(hours, 2),
        "hardware": "one core of a CPU, bf16",
    }


def item(model: MSGFM, about: dict[str, Any]) -> dict[str, Any]:
    """Return a STAC 1.1 item with the machine-learning-model extension 1.5.2."""
    active, stored = model.parameter_counts()
    names = {s: [band.name for band in bands_of(s)] for s in model.encoder.config.sensors}
    bands = [{"name": f"{s}:{name}"} for s, each in names.items() for name in each]
    inputs = [
        {
            "name": s,
            "description": f"optional; unit: {UNITS[s]}",
            "bands": [f"{s}:{name}" for name in each],
            "input": _array([-1, len(each), -1, -1], ["batch", "bands", "height", "width"]),
            "pre_processing_function": None,
        }
        for s, each in names.items()
    ]
    width = 2 * sum(model.encoder.config.widths)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/mlm/v1.5.2/schema.json"],
        "id": "glocal-msgfm-nano",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        },
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "datetime": None,
            "start_datetime": "2014-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "description": about["task"],
            "license": about["licence"],
            "bands": bands,
            "mlm:name": about["name"],
            "mlm:architecture": "Swin Transformer, mixture of experts",
            "mlm:tasks": ["similarity-search"],
            "mlm:framework": "pytorch",
            "mlm:total_parameters": stored,
            "mlm:memory_size": 4 * stored,
            "mlm:hyperparameters": {"active_parameters": active},
            "mlm:pretrained": True,
            "mlm:pretrained_source": ", ".join(row["origin"] for row in about["data"]),
            "mlm:input": inputs,
            "mlm:output": [
                {
                    "name": "embedding",
                    "tasks": ["similarity-search"],
                    "result": _array([-1, width], ["batch", "feature"]),
                    "post_processing_function": None,
                }
            ],
        },
        "links": [],
        "assets": {
            "weights": {
                "href": "./weights.safetensors",
                "type": "application/octet-stream",
                "title": "Weights in bfloat16",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "safetensors.torch.save_file",
                "bands": bands,
            },
            "manifest": {
                "href": "./manifest.json",
                "type": "application/json",
                "title": "Configuration, model card and SHA-256",
                "roles": ["metadata"],
            },
        },
    }


def _array(shape: list[int], order: list[str]) -> dict[str, Any]:
    return {"shape": shape, "dim_order": order, "data_type": "float32"}


def release(runs: Sequence[Path], pool: Path, to: Path) -> float:
    """Write the packaged weights; return their size in MB.

    Raises
    ------
    ValueError
        The pool holds an origin that shipped weights may not learn from, or the file is too large.
    """
    foreign = [name for name in Pool([pool]).origins if not ORIGINS[name].shipped]
    if foreign:
        raise ValueError(f"shipped weights may not learn from {foreign}; build the pool anew")
    about = card(runs, pool)
    model = MSGFM.from_pretrained(runs[-1] / "weights")
    (to / "item.json").unlink(missing_ok=True)
    model.save_pretrained(to, half=True, **about)
    (to / "item.json").write_text(json.dumps(item(model, about), indent=2) + "\n")
    size = (to / "weights.safetensors").stat().st_size / 1e6
    if size > LIMIT_MB:
        raise ValueError(f"{to} has {size:.1f} MB, more than the {LIMIT_MB} MB of a package")
    return size


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, action="append", required=True, help="pretraining run")
    parser.add_argument("--pool", type=Path, required=True, help="the shards it learned from")
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    print(f"{release(given.run, given.pool, given.to):.1f} MB")  # noqa: T201


if __name__ == "__main__":
    main()
