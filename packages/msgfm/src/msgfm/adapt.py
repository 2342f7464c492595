"""An encoder that reads one more sensor, one that no pretraining saw."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange

from msgfm.embed import PATCH
from msgfm.encoder import Encoder
from msgfm.errors import SensorError
from msgfm.sensors import bands_of


def with_sensor(encoder: Encoder, short: str, like: str | None = None) -> Encoder:
    """Return a copy that also reads the sensor ``short``; all other weights are those given.

    The new patch embedding is random, or with ``like`` put together from the embedding of that
    sensor: each band takes the weights of the band of the nearest wavelength, so that the new
    sensor is read as if it were a subset of the other's bands.

    Raises
    ------
    SensorError
        The sensor table has no ``short``, or one of the two has bands that are not optical.
    ValueError
        The encoder reads ``short`` already, or does not read ``like``.
    """
    if short in encoder.config.sensors:
        raise ValueError(f"the encoder already reads {short}")
    if like is not None and like not in encoder.config.sensors:
        raise ValueError(f"the encoder does not read {like}; it reads {encoder.config.sensors}")
    config = replace(encoder.config, sensors=(*encoder.config.sensors, short))
    # A sensor owns its patch embedding and nothing else, so one more leaves all others as they are.
    larger = Encoder(config)
    # PyTorch copies what has the same name; what is left out are the new sensor's parameters
    left = larger.load_state_dict(encoder.state_dict(), strict=False)
    new = f"embed_tokens.sensors.{short}."
    if left.unexpected_keys or any(not name.startswith(new) for name in left.missing_keys):
        raise ValueError(f"encoders differ in more than the sensor {short}: {left}")
    if like is not None:
        mine, theirs = (larger.embed_tokens.of(name) for name in (short, like))
        # Each band takes the filter of the nearest wavelength, for its pixels and their validity
        # (v = 2). Networks that make filters from wavelengths (DOFA, Xiong et al., 2024) do the
        # same smoothly; they are pretrained for it, ours was not.
        old = rearrange(theirs.project.weight, "d (v c p q) -> d v c p q", v=2, p=PATCH, q=PATCH)
        near = old[:, :, _nearest_bands(short, like)]
        with torch.no_grad():
            mine.project.weight.copy_(rearrange(near, "d v c p q -> d (v c p q)"))
            mine.project.bias.copy_(theirs.project.bias)
        mine.context.load_state_dict(theirs.context.state_dict())
        mine.norm.load_state_dict(theirs.norm.state_dict())
    return larger.eval()


def _nearest_bands(short: str, like: str) -> list[int]:
    """Return for each band of ``short`` the position of the band of ``like`` nearest to it."""
    theirs, ours = torch.tensor(_wavelengths(like)), torch.tensor(_wavelengths(short))
    nearest: list[int] = (ours[:, None] - theirs).abs().argmin(1).tolist()
    return nearest


def _wavelengths(short: str) -> list[float]:
    bands = bands_of(short)
    optical = [one.wavelength_um for one in bands if one.wavelength_um is not None]
    if len(optical) < len(bands):
        raise SensorError(f"sensor {short} has bands without a wavelength; leave out like=")
    return optical
