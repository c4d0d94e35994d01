"""The training losses: latent consistency flow matching, and plain flow matching to compare with.

Source: Cohen, Achituve, Diamant, Netzer, Habi, "Efficient Image Restoration via Latent Consistency Flow
Matching", BMVC 2025 (arXiv 2502.03500); the consistency term follows Yang et al., "Consistency Flow Matching",
arXiv 2407.02398.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.model.elir import Elir


@dataclass(frozen=True)
class FlowSettings:
    """Constants of the losses; the defaults are the published ones.

    Attributes:
        segments: pieces of [0, 1] within which the velocity is to be constant; the number of Euler steps.
        noise: standard deviation of the noise added to the coarse estimate (the recipe's ``sigma``).
        alpha: weight of the velocities' own consistency.
        beta: weight of the pixel term; 0 leaves it out, and with it the decoder.
        dt: distance in time between the two points whose predictions are to agree.
        sigma_min: what is left of the start at t = 1.
    """

    segments: int
    noise: float
    alpha: float = 1e-3
    beta: float = 1e-3
    dt: float = 0.05
    sigma_min: float = 1e-5


@dataclass(frozen=True)
class Losses:
    """The terms of one batch, scalars; ``total`` is what is minimised."""

    total: Tensor
    coarse: Tensor
    flow: Tensor
    velocity: Tensor
    pixel: Tensor


class Teacher(nn.Module):
    """The frozen autoencoder: its encoder says where clean images lie, its decoder what latents look like."""

    def __init__(self, enc: nn.Module, dec: nn.Module) -> None:
        super().__init__()
        self.enc, self.dec = enc, dec
        self.requires_grad_(False).eval()


def _column(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1, 1)


def lcfm_loss(
    model: Elir,
    teacher: Teacher,
    x_lq: Tensor,
    x_hq: Tensor,
    settings: FlowSettings,
    *,
    uniform: Tensor | None = None,
    normal: Tensor | None = None,
) -> Losses:
    """Latent consistency flow matching, as published.

    Args:
        model: trained are its encoder, coarse estimator and velocity field; its decoder is not used.
        teacher: the frozen autoencoder.
        x_lq: degraded images ``[N, 3, H, W]`` in [0, 1].
        x_hq: clean images, same shape.
        settings: constants.
        uniform: ``[N]`` (or ``[N, 1, 1, 1]``) in [0, 1), before it is scaled to [0, 1 - dt); None draws it.
        normal: standard normal numbers in the latent's shape; None draws them.
    """
    s = settings
    with torch.no_grad():
        z_hq = teacher.enc(x_hq)
    z_coarse = model.mmse(model.enc(x_lq))
    coarse = F.mse_loss(z_hq, z_coarse)
    start = z_coarse.detach() + s.noise * (torch.randn_like(z_hq) if normal is None else normal)
    draw = torch.rand(len(x_hq), device=x_hq.device) if uniform is None else uniform
    t = _column(draw) * (1.0 - s.dt)
    r = t + s.dt
    end = (torch.floor(t * s.segments) + 1.0).clamp(max=float(s.segments)) / s.segments

    def between(time: Tensor) -> Tensor:
        path: Tensor = (1.0 - (1.0 - s.sigma_min) * time) * start + time * z_hq
        return path

    z_t = between(t)
    v = model.fmir(z_t, t.flatten())
    with torch.no_grad():
        z_r = between(r)
        v_later = model.fmir(z_r, r.flatten())
        f_later = torch.where(r < end, z_r + (end - r) * v_later, between(end))
    f = z_t + (end - t) * v
    flow, velocity = F.mse_loss(f, f_later), F.mse_loss(v, v_later)
    pixel = torch.zeros((), device=x_hq.device)
    if s.beta > 0.0:
        held = f.detach()
        last = held + (1.0 - end) * model.fmir(held, end.flatten())
        pixel = F.mse_loss(x_hq, teacher.dec(last, x_lq).to(x_hq.dtype))
    total = coarse + (1.0 - s.beta) * (flow + s.alpha * velocity) + s.beta * pixel
    return Losses(total, coarse, flow, velocity, pixel)


def flow_matching_loss(
    model: Elir,
    teacher: Teacher,
    x_lq: Tensor,
    x_hq: Tensor,
    settings: FlowSettings,
    *,
    uniform: Tensor | None = None,
    normal: Tensor | None = None,
) -> Losses:
    """Plain flow matching: the velocity is that of the straight line, and t is uniform in [0, 1).

    Arguments as in :func:`lcfm_loss`; ``segments``, ``alpha`` and ``dt`` have no part in it.
    """
    s = settings
    with torch.no_grad():
        z_hq = teacher.enc(x_hq)
    z_coarse = model.mmse(model.enc(x_lq))
    coarse = F.mse_loss(z_hq, z_coarse)
    start = z_coarse.detach() + s.noise * (torch.randn_like(z_hq) if normal is None else normal)
    t = _column(torch.rand(len(x_hq), device=x_hq.device) if uniform is None else uniform)
    z_t = (1.0 - (1.0 - s.sigma_min) * t) * start + t * z_hq
    v = model.fmir(z_t, t.flatten())
    flow = F.mse_loss(v, z_hq - (1.0 - s.sigma_min) * start)
    zero = torch.zeros((), device=x_hq.device)
    pixel = zero
    if s.beta > 0.0:
        pixel = F.mse_loss(x_hq, teacher.dec(z_t + (1.0 - t) * v, x_lq).to(x_hq.dtype))
    return Losses(coarse + (1.0 - s.beta) * flow + s.beta * pixel, coarse, flow, zero, pixel)
