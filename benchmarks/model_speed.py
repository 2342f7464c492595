"""Speed of the encoder beside a dense Swin of the same active size, in one paired run.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.model_speed [--only nano tiny]
        [--repeats 5] [--openvino] [--out out/model_speed] [--save model_speed]

The peer is ``SwinModel`` of Hugging Face transformers with random weights: same width, depths,
heads, window, batch and size (256 px, where neither side pads), with its two ways of attention.
Ours also reads validity, ground size and date, and normalises four maps instead of one. A training
step is forward, backward and AdamW. Variants take turns in every repeat. Seconds are CPU seconds of
the process, which a busy machine lengthens less than the clock on the wall; both are in the JSON.
The peer pads 64 px to whole windows, so that size is reported for ours alone.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import SwinConfig, SwinModel

from benchmarks.stored import Cell, Column, Table, add_save, keep
from glocal.io.atomic import write_json
from msgfm import Batch, Encoder, EncoderConfig, batch_of, nano, tiny
from msgfm.blocks import MLP, MixtureOfExperts

PEAK = 2048
"""Side of the square matrices whose product is taken for the processor's peak."""

SIZES = {"nano": nano, "tiny": tiny}
IMAGES = {"nano": 8, "tiny": 4}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")

Call = Callable[[], Any]
Times = dict[str, list[tuple[float, float]]]


def peer(config: EncoderConfig, side: int, attention: str) -> nn.Module:
    """Return the dense Swin of the same active size."""
    shape = SwinConfig(
        image_size=side,
        patch_size=4,
        num_channels=3,
        embed_dim=config.width,
        depths=list(config.depths),
        num_heads=list(config.heads),
        window_size=config.window,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=0.0,
        attn_implementation=attention,
    )
    return SwinModel(shape, add_pooling_layer=False)


def images(count: int, side: int) -> Batch:
    rng = np.random.default_rng(0)
    return batch_of({"rgb": rng.uniform(0.2, 0.5, (count, 3, side, side))}, day={"rgb": 180.0})


def take_turns(variants: dict[str, Call], repeats: int) -> Times:
    """Return, per variant, (CPU seconds, wall seconds) of each repeat after one that warms up."""
    for run in variants.values():
        run()
    times: Times = defaultdict(list)
    for _ in range(repeats):
        for name, run in variants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def inference(forward: Call, model: nn.Module, *, half: bool) -> None:
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        forward()


def step(forward: Call, model: nn.Module, optimiser: torch.optim.Optimizer, *, half: bool) -> None:
    model.train()
    optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = forward()
    loss.backward()
    optimiser.step()


def ours_loss(encoder: Encoder, batch: Batch) -> torch.Tensor:
    features = encoder(batch)
    loss: torch.Tensor = features.maps[-1].float().mean()
    return loss if features.routing is None else loss + 0.01 * features.routing.balance


def peer_loss(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    return model(pixels).last_hidden_state.float().mean()


def models(name: str, side: int, *, with_peer: bool) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        "ours, experts": Encoder(SIZES[name]()),
        "ours, dense": Encoder(SIZES[name](experts=1)),
    }
    if with_peer:
        for attention in ("sdpa", "eager"):
            found[f"transformers, {attention}"] = peer(SIZES[name](), side, attention)
    return found


def compare(name: str, side: int, count: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per task, precision and variant."""
    batch, rows = images(count, side), []
    everyone = models(name, side, with_peer=side % (32 * SIZES[name]().window) == 0)
    calls = {
        k: partial(ours_loss, m, batch) if isinstance(m, Encoder)
        else partial(peer_loss, m, batch.values["rgb"])
        for k, m in everyone.items()
    }  # fmt: skip
    for task in ("inference", "training step"):
        for half in (False, True):
            variants: dict[str, Call] = {}
            for k, model in everyone.items():
                if task == "inference":
                    variants[k] = partial(inference, calls[k], model, half=half)
                else:
                    adam = torch.optim.AdamW(model.parameters(), 1e-5)
                    variants[k] = partial(step, calls[k], model, adam, half=half)
            if options.openvino and task == "inference":
                encoder = everyone["ours, experts"]
                variants["ours, OpenVINO"] = exported(encoder, batch, options.threads, half=half)
            times = take_turns(variants, options.repeats)
            about = {"model": name, "side": side, "images": count, "task": task, "half": half}
            rows += [{**about, "variant": k, **summary(v, count)} for k, v in times.items()]
    return rows


def exported(encoder: nn.Module, batch: Batch, threads: int, *, half: bool) -> Call:
    export = importlib.import_module("msgfm.export")
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "graph"
        export.to_openvino(encoder, batch.sensors, batch.shape_yx, to, batch=len(batch))
        return partial(export.from_openvino(to, bf16=half, threads=threads), batch)


def summary(times: list[tuple[float, float]], count: int) -> dict[str, Any]:
    cpu, wall = (sorted(column) for column in zip(*times, strict=True))
    return {
        "per_s": count / statistics.median(cpu),
        "slowest": count / cpu[-1],
        "fastest": count / cpu[0],
        "cpu_s": cpu,
        "wall_s": wall,
    }


def mlp_share(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the share of a square product's rate that the MLPs reach inside a forward pass."""
    torch.manual_seed(0)
    encoder, batch = Encoder(SIZES[name]()).eval(), images(IMAGES[name], 256)
    rows = []
    for half in (False, True):
        spent: dict[str, float] = defaultdict(float)
        work: dict[str, float] = defaultdict(float)
        square = torch.rand(PEAK, PEAK, dtype=torch.bfloat16 if half else torch.float32)
        hooks = [hook for m in encoder.modules() for hook in watch(m, spent, work)]
        rates: dict[str, list[float]] = defaultdict(list)
        forward = partial(encoder, batch)
        inference(forward, encoder, half=half)
        for _ in range(options.repeats):
            spent.clear()
            work.clear()
            inference(forward, encoder, half=half)
            start = time.process_time()
            torch.mm(square, square)
            rates["peak"].append(2 * PEAK**3 / (time.process_time() - start))
            for kind, seconds in spent.items():
                rates[kind].append(work[kind] / seconds)
        for hook in hooks:
            hook.remove()
        middle = {k: statistics.median(v) for k, v in rates.items()}
        about = {"model": name, "half": half, "peak_gflop_s": middle["peak"] / 1e9}
        rows += [
            {**about, "layers": k, "gflop_s": middle[k] / 1e9, "share": middle[k] / middle["peak"]}
            for k in spent
        ]
    return rows


def watch(module: nn.Module, spent: dict[str, float], work: dict[str, float]) -> list[Any]:
    """Add the CPU seconds and the operations of an MLP's every call to ``spent`` and ``work``."""
    if not isinstance(module, MLP | MixtureOfExperts):
        return []
    kind = "MLP" if isinstance(module, MLP) else "experts"
    hidden = module.up.out_features if isinstance(module, MLP) else module.up.shape[-1]
    start = [0.0]

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        work[kind] += 4 * inputs[0].numel() * hidden
        start[0] = time.process_time()

    def after(*_: Any) -> None:
        spent[kind] += time.process_time() - start[0]

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def halved(name: str) -> dict[str, Any]:
    """Return how far bfloat16 features lie from float32 ones."""
    torch.manual_seed(0)
    encoder, batch = Encoder(SIZES[name]()).eval(), images(2, 256)
    with torch.inference_mode():
        exact = encoder(batch).maps
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(batch).maps
    apart = [float((a - b).abs().max()) for a, b in zip(exact, rough, strict=True)]
    relative = [float((a - b).norm() / a.norm()) for a, b in zip(exact, rough, strict=True)]
    return {"model": name, "max": max(apart), "relative": max(relative)}


def machine(threads: int) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    words = info.read_text(encoding="utf-8").split() if info.is_file() else []
    return {
        "processor": platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in words],
        "threads": threads,
        "torch": torch.__version__,
    }


def precision(row: dict[str, Any]) -> str:
    return "bf16" if row["half"] else "fp32"


def speed(rows: list[dict[str, Any]]) -> Table:
    """Return images per second of ours and of the faster peer, and what the experts reach of it."""
    groups: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        key = (row["model"], row["task"], f"{row['images']} × {row['side']} px", precision(row))
        groups[key][row["variant"]] = row
    out: list[tuple[Cell, ...]] = []
    for key, variants in groups.items():
        experts, dense = variants["ours, experts"], variants["ours, dense"]
        peers = [one for name, one in variants.items() if name.startswith("transformers")]
        best = max(peers, key=lambda one: one["per_s"], default=None)
        ratio = experts["per_s"] / best["per_s"] if best else None
        out.append((*key, _rate(experts), _rate(dense), _rate(best), ratio))
    names = ("model", "task", "images", "precision")
    rates = ("ours, experts", "ours, dense", "best of transformers")
    return Table(
        columns=(
            *(Column(name=name) for name in names),
            *(Column(name=name, digits=2) for name in rates),
            Column(name="experts ÷ transformers", digits=2),
        ),
        rows=tuple(out),
    )


def _rate(row: dict[str, Any] | None) -> Cell:
    return row and (row["per_s"], row["slowest"], row["fastest"])


def tables(found: dict[str, Any]) -> dict[str, Table]:
    """Return speed, the share of a matrix product that layers reach, and what bfloat16 costs."""
    layers = [
        (row["model"], precision(row), row["layers"], 100 * row["share"], row["gflop_s"],
         row["peak_gflop_s"])
        for row in found["mlp"]
    ]  # fmt: skip
    rounded = [(row["model"], 100 * row["relative"], row["max"]) for row in found["bf16"]]
    graphs = [
        (row["model"], f"{row['images']} × {row['side']} px", precision(row), _rate(row))
        for row in found["speed"]
        if row["variant"] == "ours, OpenVINO"
    ]
    tables = {
        "speed": speed(found["speed"]),
        "layers": Table(
            columns=(
                *(Column(name=name) for name in ("model", "precision", "layers")),
                Column(name="share of the product, %", digits=0),
                Column(name="GFLOP/s", digits=0),
                Column(name="2048³ product, GFLOP/s", digits=0),
            ),
            rows=tuple(layers),
        ),
        "bf16": Table(
            columns=(
                Column(name="model"),
                Column(name="relative difference, %", digits=1),
                Column(name="largest difference", digits=3),
            ),
            rows=tuple(rounded),
        ),
    }
    if graphs:
        heads = (Column(name=name) for name in ("model", "images", "precision"))
        columns = (*heads, Column(name="OpenVINO, images per second", digits=2))
        tables["openvino"] = Table(columns=columns, rows=tuple(graphs))
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/model_speed"))
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {
        "machine": machine(options.threads),
        "speed": [],
        "mlp": [],
        "bf16": [],
    }
    for name in options.only:
        if name == "nano":
            found["speed"] += compare(name, 64, 64, options)
        found["speed"] += compare(name, 256, IMAGES[name], options)
        found["mlp"] += mlp_share(name, options)
        found["bf16"].append(halved(name))
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "speed.json", found)
    about = found["machine"]
    keep(options.save, tables(found), [], f"{', '.join(about['flags'])}; torch {about['torch']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
