"""msGFM: an encoder for any sensors, pretrained across sensors, with a mixture of experts."""

from __future__ import annotations

from msgfm.batch import Batch, batch_of
from msgfm.decoders import MSGFM
from msgfm.encoder import Encoder, EncoderConfig, Features, base, nano, tiny
from msgfm.objective import ObjectiveConfig, Pretraining

__all__ = [
    "MSGFM",
    "Batch",
    "Encoder",
    "EncoderConfig",
    "Features",
    "ObjectiveConfig",
    "Pretraining",
    "base",
    "batch_of",
    "nano",
    "tiny",
]
