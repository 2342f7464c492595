"""The encoder as an OpenVINO model: faster inference on Intel and AMD processors.

Import this file only after asking for it: ``pip install -e 'packages/msgfm[openvino]'``.
What is exported has fixed sensors, image size and batch. OpenVINO has no grouped product, so
every expert is computed and the gates mix them: the same numbers as the encoder's for more work.
Images are normalised before they enter the graph, since bfloat16 would round a height of 1000 m
to 4 m.
Shape letters: B batch, C band, H W pixels, D width, E experts.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from msgfm.batch import Batch
from msgfm.blocks import MixtureOfExperts, SwinBlock
from msgfm.checkpoint import replacing
from msgfm.embed import Normaliser, SensorEmbedding, context_of
from msgfm.encoder import Encoder, bf16_is_fast
from msgfm.errors import CheckpointError, InputSizeError
from msgfm.sensors import bands_of

try:
    import openvino
except ImportError as error:
    raise ImportError(
        "OpenVINO is not installed; run: pip install -e 'packages/msgfm[openvino]'"
    ) from error

GRAPH = "encoder.xml"
ABOUT = "export.json"


def to_openvino(
    encoder: Encoder,
    sensors: Sequence[str],
    shape_yx: tuple[int, int],
    folder: str | Path,
    *,
    batch: int = 1,
) -> None:
    """Write ``folder`` with a graph for ``batch`` images of these sensors and this size.

    Raises
    ------
    CheckpointError
        The folder holds something already.
    InputSizeError
        The size is not a multiple of the encoder's stride.
    """
    folder, stride = Path(folder).resolve(), encoder.config.stride
    if any(n < 1 or n % stride for n in shape_yx):
        raise InputSizeError(
            f"the size must be a multiple of {stride} px, got {shape_yx}; pad with invalid pixels"
        )
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty; choose another folder or delete this one")
    example = _example(sensors, shape_yx, batch)
    about = {
        "sensors": list(sensors),
        "shape_yx": list(shape_yx),
        "batch": batch,
        "config": asdict(encoder.config),
    }
    with replacing(folder) as made:
        openvino.save_model(
            _convert(encoder, sensors, example), made / GRAPH, compress_to_fp16=False
        )
        (made / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def from_openvino(
    folder: str | Path, *, bf16: bool | None = None, threads: int = 0
) -> Callable[[Batch], list[Tensor]]:
    """Return a function from a batch to maps (B, h, w, D) float32 at strides 4, 8, 16, 32.

    ``bf16`` None means where the processor is fast at it; ``threads`` 0 means all.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise CheckpointError(f"{folder} holds no {ABOUT}; make it with to_openvino")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    # bfloat16 halves what goes through memory, and costs where the processor must emulate it
    half = bf16_is_fast(torch.device("cpu")) if bf16 is None else bf16
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(folder / GRAPH, "CPU", options)
    sensors, expected = about["sensors"], (about["batch"], *about["shape_yx"])
    normalisers = {short: Normaliser(bands_of(short)) for short in sensors}

    def run(batch: Batch) -> list[Tensor]:
        given = (len(batch), *batch.shape_yx)
        if given != expected or set(batch.sensors) != set(sensors):
            raise InputSizeError(
                f"exported for {sensors} and (B, H, W) = {expected}, got {batch.sensors}, {given}"
            )
        inputs = [tensor.numpy() for tensor in _inputs(batch, normalisers)]
        found = compiled(inputs)
        return [torch.from_numpy(found[i].copy()) for i in range(len(compiled.outputs))]

    return run


def _convert(encoder: Encoder, sensors: Sequence[str], example: tuple[Tensor, ...]) -> Any:
    graph = _Graph(encoder, sensors).eval()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of tracing: sizes are constants, as they should be
        shapes = [list(tensor.shape) for tensor in example]
        return openvino.convert_model(graph, example_input=example, input=shapes)


def _inputs(batch: Batch, normalisers: dict[str, Normaliser]) -> tuple[Tensor, ...]:
    """Return, per sensor, normalised pixels, which are valid, and ground size and date."""
    parts = (
        (
            normalise(batch.values[short], batch.valid[short]),
            batch.valid[short],
            context_of(batch.gsd_m[short], batch.day[short]),
        )
        for short, normalise in normalisers.items()
    )
    return tuple(tensor for part in parts for tensor in part)


def _example(sensors: Sequence[str], shape_yx: tuple[int, int], count: int) -> tuple[Tensor, ...]:
    """Return inputs with a hole: a complete image would trace the path without masks."""
    empty = {s: torch.zeros(count, len(bands_of(s)), *shape_yx) for s in sensors}
    valid = {s: torch.ones_like(v, dtype=torch.bool) for s, v in empty.items()}
    for mask in valid.values():
        mask[..., : shape_yx[0] // 2, :] = False
    ground = {s: torch.full((count,), 10.0) for s in sensors}
    batch = Batch(values=empty, valid=valid, gsd_m=ground, day=ground)
    return _inputs(batch, {s: Normaliser(bands_of(s)) for s in sensors})


class _Graph(nn.Module):
    """A copy of the encoder whose inputs are a flat list of tensors."""

    def __init__(self, encoder: Encoder, sensors: Sequence[str]) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).float().cpu()
        self.sensors = tuple(sensors)
        fusion = self.encoder.embed_tokens
        fusion.sensors = nn.ModuleDict({s: _Prepared(fusion.of(s)) for s in sensors})
        for block in self.encoder.modules():
            if isinstance(block, SwinBlock) and isinstance(block.mlp, MixtureOfExperts):
                block.mlp = _AllExperts(block.mlp)  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        pixels, valid, context = (
            dict(zip(self.sensors, inputs[i::3], strict=True)) for i in range(3)
        )
        # The context takes the place of the ground size, which `_Prepared` expects.
        batch = Batch(values=pixels, valid=valid, gsd_m=context, day=context)
        maps: tuple[Tensor, ...] = self.encoder(batch).maps
        return maps


class _Prepared(SensorEmbedding):
    """A sensor's embedding, for pixels that are normalised already."""

    def __init__(self, made: SensorEmbedding) -> None:
        nn.Module.__init__(self)
        self.project, self.context, self.norm = made.project, made.context, made.norm

    def forward(
        self, values: Tensor, valid: Tensor, gsd_m: Tensor, day: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.tokens(values, valid, gsd_m)


class _AllExperts(nn.Module):
    """Every expert as one wide MLP; the gates, 0 for experts not chosen, scale hidden units."""

    def __init__(self, mixture: MixtureOfExperts) -> None:
        super().__init__()
        self.router, self.top_k = mixture.router, mixture.top_k
        self.up = nn.Parameter(mixture.up.transpose(0, 1).flatten(1))
        self.up_bias = nn.Parameter(mixture.up_bias.flatten())
        self.down = nn.Parameter(mixture.down.flatten(0, 1))
        self.down_bias = mixture.down_bias

    def forward(self, x: Tensor) -> Tensor:
        # sum_e g_e (W2_e h_e + b2_e), with h_e = gelu(W1_e x + b1_e) of every expert side by side:
        # one wide MLP whose hidden units are scaled by g_e, which is 0 for experts not chosen.
        share = self.router(x).softmax(-1)
        gate, expert = share.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            gate = gate / gate.sum(-1, keepdim=True)
        gates = (F.one_hot(expert, share.shape[-1]).to(x.dtype) * gate[..., None]).sum(-2)
        hidden = F.gelu(x @ self.up + self.up_bias)
        hidden = rearrange(hidden, "... (e d) -> ... e d", e=share.shape[-1]) * gates[..., None]
        mixed: Tensor = hidden.flatten(-2) @ self.down + gates @ self.down_bias
        return mixed
