"""Features back to the pixels of a sensor: one light decoder each, and one per target map.

Shape letters: B batch, C band, H W pixels, h w tokens, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from msgfm.blocks import MixtureOfExperts
from msgfm.checkpoint import fill, find, read, usable, write
from msgfm.embed import PATCH, SensorEmbedding
from msgfm.encoder import Encoder, EncoderConfig, Features, config_of
from msgfm.errors import CheckpointError
from msgfm.sensors import bands_of

DECODER_WIDTH = 64
"""Small, so that what the encoder did not understand can't be made up for here."""


class Decoder(nn.Module):
    """Maps of all strides, projected and summed at stride 4, then one linear map to the pixels."""

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        # A linear map to pixels is enough of a decoder for masked modelling (SimMIM, section 3.3).
        # SimMIM maps the coarsest tokens alone, to 32 x 32 pixels each; ours sums all four strides,
        # as feature pyramids do (Lin et al., CVPR 2017), so that the fine stages learn directly.
        self.projections = nn.ModuleList(nn.Linear(width, DECODER_WIDTH) for width in widths)
        self.norm = nn.LayerNorm(DECODER_WIDTH)
        self.mix = nn.Linear(DECODER_WIDTH, DECODER_WIDTH)
        self.pixels = nn.Linear(DECODER_WIDTH, channels * PATCH**2)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map (B, h, w, D) per stage to (B, C, 4 h, 4 w) of the first stage."""
        # A coarse token is repeated over the fine ones below it; what juts out of the image is cut.
        rows, columns = maps[0].shape[1:3]
        total = self.projections[0](maps[0])
        for i, (project, coarse) in enumerate(
            zip(self.projections[1:], maps[1:], strict=True), start=1
        ):
            fine = repeat(project(coarse), "b h w d -> b (h p) (w q) d", p=2**i, q=2**i)
            total = total + fine[:, :rows, :columns]
        hidden = F.gelu(self.mix(self.norm(total)))
        pixels: Tensor = self.pixels(hidden)
        # the reverse of the patch embedding: 16 C numbers of a token are its 4 x 4 pixels
        return rearrange(pixels, "b h w (c p q) -> b c (h p) (w q)", p=PATCH, q=PATCH)


class MSGFM(nn.Module):
    """Encoder and decoders: what pretraining trains, and what can fill or translate images."""

    def __init__(self, config: EncoderConfig, maps: Mapping[str, int] | None = None) -> None:
        """Make a model; ``maps`` names target maps and their number of classes."""
        super().__init__()
        self.encoder = Encoder(config)
        self.maps = dict(maps or {})
        if clash := set(self.maps) & set(config.sensors):
            raise ValueError(f"a target map can't be called as a sensor: {sorted(clash)}")
        # A map is painted as its classes: one channel per class instead of one per band.
        channels = {short: len(bands_of(short)) for short in config.sensors} | self.maps
        self.decoders = nn.ModuleDict(
            {name: Decoder(config.widths, count) for name, count in channels.items()}
        )

    def reconstruct(self, features: Features, target: str, shape_yx: tuple[int, int]) -> Tensor:
        """Return normalised pixels (B, C, H, W) of a sensor, or logits (B, K, H, W) of a map."""
        out: Tensor = self.decoders[target](features.maps)
        return out[..., : shape_yx[0], : shape_yx[1]]

    def decode(
        self, features: Features, target: str, shape_yx: tuple[int, int] | None = None
    ) -> Tensor:
        """Return a sensor's pixels (B, C, H, W) in physical units.

        Without ``shape_yx`` H and W are those of the image, rounded up to whole tokens of 4 px.
        A height comes back relative to the mean of its chip: relief is all the model knows.

        Raises
        ------
        SensorError
            A sensor that the model lacks, or a map: maps have classes, not units.
        """
        normalise = self.embedding(target).normalise
        rows, columns = features.maps[0].shape[1:3]
        shape = shape_yx or (int(rows) * PATCH, int(columns) * PATCH)
        return normalise.invert(self.reconstruct(features, target, shape).float())

    def embedding(self, short: str) -> SensorEmbedding:
        """Return the embedding of a sensor, which holds its normalisation."""
        return self.encoder.embed_tokens.of(short)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Return a model with saved weights, decoders included; see `Encoder.from_pretrained`."""
        folder = find(source)
        tensors, manifest = read(folder)
        with usable(folder):
            model = cls(config_of(manifest), manifest.get("maps"))
        if not any(name.startswith("decoders.") for name in tensors):
            raise CheckpointError(
                f"{folder} holds an encoder alone; load it with Encoder.from_pretrained"
            )
        fill(model, tensors, folder)
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, half: bool = False, **card: Any) -> None:
        """Write weights and manifest to ``folder``; ``card`` goes into the manifest."""
        about = {"config": asdict(self.encoder.config), "maps": self.maps, "card": card}
        write(Path(folder), self.state_dict(), about, half=half)

    def parameter_counts(self) -> tuple[int, int]:
        """Return how many parameters of the encoder one token uses, and how many are stored."""
        config = self.encoder.config
        stored = sum(p.numel() for p in self.encoder.parameters())
        experts = sum(
            p.numel()
            for module in self.encoder.modules()
            if isinstance(module, MixtureOfExperts)
            for p in (module.up, module.up_bias, module.down, module.down_bias)
        )
        # all experts are stored; a token meets k of E, and everything else (Switch, section 2)
        return stored - experts * (config.experts - config.top_k) // config.experts, stored
