"""The four parts and the Euler loop in torch: build and training time only.

Attribute names follow the published checkpoints (``enc``, ``mmse``, ``fmir``, ``dec``), so that a state dict
loads as it is.
"""

from __future__ import annotations

from elir_trt.model.autoencoder import Decoder, Encoder
from elir_trt.model.checkpoint import collapse, load_model, read_checkpoint
from elir_trt.model.coarse import Coarse
from elir_trt.model.elir import Elir
from elir_trt.model.velocity import Velocity, time_embedding

__all__ = [
    "Coarse",
    "Decoder",
    "Elir",
    "Encoder",
    "Velocity",
    "collapse",
    "load_model",
    "read_checkpoint",
    "time_embedding",
]
