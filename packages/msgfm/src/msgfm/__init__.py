"""msGFM: an encoder for any sensors, pretrained across sensors, with a mixture of experts.

Read in this order: `sensors` is the table of bands, by which `batch` lets arrays in. `embed` makes
them tokens, `blocks` holds windowed attention and experts, `encoder` stacks them.
What pretraining adds is in `decoders` and `objective` (masked images) and `agreement` (two looks).
Besides: `heads` for tasks, `adapt` for a new sensor, `checkpoint` for weights, `export` (OpenVINO).
Han et al., CVPR 2024, is the paper; comments name it, and the papers it builds on, at each step.
"""

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
