"""The shared encoder: tokens of any sensors in, feature maps at strides 4, 8, 16 and 32 out.

Swin Transformer shape (Liu et al., ICCV 2021) with experts in every second block of the longest
stage, as msGFM has (Han et al., CVPR 2024). Shape letters: B batch, C band, H W pixels, h w tokens,
D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from msgfm.batch import Batch, batch_of
from msgfm.blocks import MixtureOfExperts, Routing, Stage, StageShape
from msgfm.checkpoint import fill, find, read, usable, write
from msgfm.embed import PATCH, TokenFusion

PREFIX = "encoder."
"""Of the encoder's tensors in a file that may hold decoders too."""

SENSORS = ("rgb", "s2", "sar", "dsm")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What an encoder is made of."""

    sensors: tuple[str, ...] = SENSORS
    """Short names of the sensor table; each gets its own patch embedding."""

    width: int
    """Of the first stage; it doubles from stage to stage."""

    depths: tuple[int, ...]
    """Blocks per stage."""

    heads: tuple[int, ...]
    """Attention heads per stage."""

    window: int
    """Side of an attention window in tokens."""

    mlp_ratio: float = 4.0
    experts: int = 8
    """Per mixture, in every second block of the longest stage; 1 makes the encoder dense."""

    top_k: int = 1
    """Experts that each token is sent to."""

    capacity: float | None = 1.25
    """Tokens that an expert takes in training, as a multiple of its even share; None: any number.

    A batch of one sensor is uneven by nature; dropping sets training apart from use.
    """

    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads) or not self.depths or min(self.depths) < 1:
            raise ValueError(f"one depth >= 1 and one heads per stage, got {self}")
        if not self.sensors or len(set(self.sensors)) != len(self.sensors):
            raise ValueError(f"sensors must be distinct and not empty, got {self.sensors}")
        if self.window < 2 or self.window % 2:
            raise ValueError(f"window must be even and >= 2, got {self.window}")
        if any(w % a for w, a in zip(self.widths, self.heads, strict=True)):
            raise ValueError(f"widths {self.widths} must be multiples of heads {self.heads}")
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k must be between 1 and experts, got {self}")
        if self.capacity is not None and self.capacity <= 0:
            raise ValueError(f"capacity must be > 0, or None for no limit, got {self.capacity}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, got {self.drop_path}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))

    @property
    def stride(self) -> int:
        """Pixels per token of the coarsest map; images are padded to a multiple of it."""
        return int(PATCH * 2 ** (len(self.depths) - 1))

    @property
    def expert_stage(self) -> int:
        """Index of the longest stage."""
        return self.depths.index(max(self.depths))


# Widths, depths and heads of tiny and base are those of Swin-T and Swin-B (Swin, table 7). Eight
# experts, one per token, capacity 1.25 and windows of 6 are msGFM's; nano is ours.


def nano(**changes: Any) -> EncoderConfig:
    """Return the size for laptops: 5 M parameters active, 8 M stored."""
    shape: dict[str, Any] = {"width": 48, "depths": (2, 2, 6, 1), "heads": (3, 6, 12, 24)}
    few: dict[str, Any] = {"window": 8, "experts": 4, "capacity": None}
    return EncoderConfig(**{**shape, **few, **changes})


def tiny(**changes: Any) -> EncoderConfig:
    """Return a Swin-T with 8 experts: 28 M parameters active."""
    shape: dict[str, Any] = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
    return EncoderConfig(**{**shape, "window": 8, **changes})


def base(**changes: Any) -> EncoderConfig:
    """Return the Swin-B of the paper, with 8 experts and windows of 6 for images of 192 px."""
    shape: dict[str, Any] = {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)}
    return EncoderConfig(**{**shape, "window": 6, **changes})


class Features(NamedTuple):
    """What the encoder saw."""

    maps: tuple[Tensor, ...]
    """(B, h, w, D) per stage, normalised, cut to the image: h = ceil(H / stride)."""

    known: tuple[Tensor, ...]
    """(B, h, w) per stage, True where any pixel below is valid and visible."""

    routing: Routing | None
    """Mean over the mixtures; None in a dense encoder."""


class Encoder(nn.Module):
    """Images of any of its sensors, alone or together, to multi-scale features."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        # Swin doubles the width where it halves the sides: D, 2 D, 4 D, 8 D at strides 4 to 32.
        # Most parameters and most work lie in the longest stage, so the experts are there.
        plain = StageShape(config.window, config.mlp_ratio, config.drop_path)
        mixed = plain._replace(experts=config.experts, top_k=config.top_k, capacity=config.capacity)
        widths = config.widths
        self.embed_tokens = TokenFusion(config.sensors, config.width)
        self.stages = nn.ModuleList(
            Stage(width, depth, heads, mixed if i == config.expert_stage else plain)
            for i, (width, depth, heads) in enumerate(
                zip(widths, config.depths, config.heads, strict=True)
            )
        )
        self.merges = nn.ModuleList(PatchMerging(width) for width in widths[:-1])
        # blocks add to a stream that they read through a norm, so what leaves a stage needs one too
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.embed_tokens.unknown, std=0.02)

    def forward(self, batch: Batch, masked: Mapping[str, Tensor] | None = None) -> Features:
        """Encode a batch of sensors of this encoder, at any size.

        ``masked`` hides tokens, as in pretraining: sensor -> (B, h, w) bool over tokens of 4 px,
        h = ceil(H / 4).

        Raises
        ------
        SensorError
            A sensor that this encoder lacks.
        ValueError
            A mask of a sensor that is not there, or of another shape.
        """
        # Padding is invalid in all bands, so it is no more than missing data: never a key, in no
        # mean, and cut off again below.
        height, width = batch.shape_yx
        padded = batch.padded(self.config.stride)
        x, known = self.embed_tokens(padded, _pad_tokens(masked or {}, batch, padded.shape_yx))
        maps, seen, routed = [], [], []
        for i, stage in enumerate(self.stages):
            if i:
                x, known = self.merges[i - 1](x, known)
            x, routing = stage(x, known)
            routed += routing
            rows, columns = (-(-n // (PATCH * 2**i)) for n in (height, width))
            maps.append(self.norms[i](x[:, :rows, :columns]))
            seen.append(known[:, :rows, :columns])
        # averaged over layers, so that the weight of the balance does not grow with the depth
        means = (torch.stack(column).mean(0) for column in zip(*routed, strict=True))
        return Features(tuple(maps), tuple(seen), Routing(*means) if routed else None)

    @torch.no_grad()  # not inference mode: its tensors can't train a head
    def features(self, images: Mapping[str, Any] | Batch, **about: Any) -> list[Tensor]:
        """Return feature maps (B, D, h, w) at strides 4, 8, 16, 32, without gradients.

        ``images`` and ``about`` are those of `batch_of`: ``{"rgb": (B, 3, H, W), ...}``.
        """
        return [rearrange(m, "b h w d -> b d h w") for m in self._infer(images, about).maps]

    @torch.no_grad()
    def embed(self, images: Mapping[str, Any] | Batch, **about: Any) -> Tensor:
        """Return one vector per place, (B, D): mean and spread of every map over known tokens."""
        # Global average pooling, as Swin's classifier does, but of all stages and with the spread
        # beside the mean: shallow maps know texture, which a mean alone wipes out.
        features = self._infer(images, about)
        return torch.cat(
            [pool(m, k) for m, k in zip(features.maps, features.known, strict=True)], 1
        )

    def _infer(self, images: Mapping[str, Any] | Batch, about: dict[str, Any]) -> Features:
        batch = images if isinstance(images, Batch) else batch_of(images, **about)
        device = self.embed_tokens.unknown.device
        states = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
                features: Features = self(batch.to(device))
        finally:
            for module, training in states:  # parts of it may be frozen
                module.training = training
        return features._replace(maps=tuple(m.float() for m in features.maps))

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Return an encoder with saved weights: ``nano``, or a folder that was saved before.

        Raises
        ------
        CheckpointError
            No such weights, a wrong hash, a newer format, or a file that is not safetensors.
        """
        folder = find(source)
        tensors, manifest = read(folder)
        with usable(folder):
            encoder = cls(config_of(manifest))
        mine = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        fill(encoder, mine, folder)
        return encoder.eval()

    def save_pretrained(self, folder: str | Path, *, half: bool = False, **card: Any) -> None:
        """Write weights and manifest to ``folder``; ``card`` goes into the manifest."""
        tensors = {PREFIX + k: v for k, v in self.state_dict().items()}
        write(Path(folder), tensors, {"config": asdict(self.config), "card": card}, half=half)


class PatchMerging(nn.Module):
    """Four neighbouring tokens to one of double width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, h, w, D) to (B, h/2, w/2, 2 D); a token is known if any of its four was."""
        # Swin, section 3.1: 2 x 2 tokens side by side (4 D), then a linear map to 2 D. Tokens where
        # nothing is known are merged like others; only attention and the poolings leave them out.
        four = rearrange(x, "b (h p) (w q) d -> b h w (p q d)", p=2, q=2)
        some = rearrange(known, "b (h p) (w q) -> b h w (p q)", p=2, q=2).any(-1)
        return self.reduce(self.norm(four)), some


def config_of(manifest: Mapping[str, Any]) -> EncoderConfig:
    """Return the configuration that a manifest holds."""
    raw: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in manifest["config"].items()
    }
    return EncoderConfig(**raw)


def pool(tokens: Tensor, known: Tensor) -> Tensor:
    """Return (B, 2 D): mean and standard deviation over known tokens; 0 where none is known."""
    # m = sum_i k_i x_i / sum_i k_i and s^2 = sum_i k_i (x_i - m)^2 / sum_i k_i over tokens i
    weight = known[..., None].to(tokens.dtype)
    count = weight.sum((1, 2)).clamp(min=1)
    mean = (tokens * weight).sum((1, 2)) / count
    spread = ((tokens - mean[:, None, None]).square() * weight).sum((1, 2)) / count
    # the root's slope is infinite at 0, where it would turn gradients into NaN
    return torch.cat([mean, spread.clamp(min=1e-12).sqrt()], 1)


def bf16_is_fast(device: torch.device) -> bool:
    """Return True where bfloat16 runs in hardware (CPU with AVX512-BF16 or AMX, GPU)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def _pad_tokens(
    masked: Mapping[str, Tensor], batch: Batch, shape_yx: tuple[int, int]
) -> dict[str, Tensor]:
    shape = (len(batch), *(-(-n // PATCH) for n in batch.shape_yx))
    for short, mask in masked.items():
        if short not in batch.sensors or tuple(mask.shape) != shape:
            raise ValueError(
                f"the mask of {short} must be {shape}, for one of {batch.sensors}; "
                f"got {tuple(mask.shape)}"
            )
    rows, columns = (n // PATCH for n in shape_yx)
    return {k: F.pad(m, (0, columns - m.shape[2], 0, rows - m.shape[1])) for k, m in masked.items()}


def _initialise(module: nn.Module) -> None:
    """Set linear maps and experts to a truncated normal of std 0.02, biases to 0."""
    # as ViT and Swin do
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, MixtureOfExperts):
        nn.init.trunc_normal_(module.up, std=0.02)
        nn.init.trunc_normal_(module.down, std=0.02)
