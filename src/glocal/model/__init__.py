"""msGFM: an encoder for any sensors, pretrained across sensors, with a mixture of experts."""

from __future__ import annotations

from glocal.model.batch import Batch, batch_of
from glocal.model.decoders import MSGFM
from glocal.model.encoder import Encoder, EncoderConfig, Features, base, nano, tiny
from glocal.model.objective import ObjectiveConfig, Pretraining

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
