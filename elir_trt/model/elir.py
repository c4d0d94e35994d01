"""ELIR: encoder, coarse estimator, Euler steps of the velocity field, decoder.

Source: Cohen, Achituve, Diamant, Netzer, Habi, "Efficient Image Restoration via Latent Consistency Flow
Matching", BMVC 2025 (arXiv 2502.03500).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elir_trt.model.autoencoder import Decoder, Encoder
from elir_trt.model.coarse import Coarse
from elir_trt.model.velocity import Velocity
from elir_trt.recipe import Architecture


class Elir(nn.Module):
    """The whole restorer; its four parts carry the names they have in published checkpoints."""

    def __init__(self, architecture: Architecture, overparametrised: bool = False) -> None:
        super().__init__()
        channels = architecture.latent_channels
        self.architecture = architecture
        self.enc = Encoder(architecture.autoencoder, channels)
        self.mmse = Coarse(channels, architecture.coarse, overparametrised)
        self.fmir = Velocity(channels, architecture.velocity, overparametrised)
        self.dec = Decoder(architecture.autoencoder, channels, architecture.skip == "gated")

    def parts(self) -> dict[str, nn.Module]:
        """The four parts by the names that they have outside of checkpoints."""
        return {"encoder": self.enc, "coarse": self.mmse, "velocity": self.fmir, "decoder": self.dec}

    def steps_from(self, z: Tensor, steps: int) -> Tensor:
        """Integrate the velocity field from ``z`` at t = 0 to t = 1 with ``steps`` Euler steps."""
        for k in range(steps):
            t = torch.full((z.shape[0],), k / steps, device=z.device)
            z = z + self.fmir(z, t) / steps
        return z

    def restore(self, x: Tensor, *, steps: int, sigma: float, noise: Tensor | None = None) -> Tensor:
        """Restore images.

        Args:
            x: ``[N, 3, H, W]`` RGB in [0, 1]; H and W multiples of 4 * downscale.
            steps: Euler steps; 0 decodes the coarse estimate, without noise.
            sigma: standard deviation of the noise that is added to the coarse estimate.
            noise: standard normal numbers in the latent's shape; None draws them.

        Returns:
            ``[N, 3, H, W]`` in [0, 1].
        """
        z: Tensor = self.mmse(self.enc(x))
        if steps > 0:
            z = z + sigma * (torch.randn_like(z) if noise is None else noise)
            z = self.steps_from(z, steps)
        return self.dec(z, x).clamp(0.0, 1.0)  # type: ignore[no-any-return]
