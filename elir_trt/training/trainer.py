"""The training loop: two phases, on a time budget or for a number of iterations, resumable at any moment.

Phases: "autoencoder" trains encoder and decoder on clean images; "joint" trains encoder, coarse estimator and
decoder together on pixels, the fastest way to a small restorer; "flow" freezes what was trained as the teacher and
trains with a latent consistency flow matching loss.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elir_trt.degradations import degradation
from elir_trt.errors import CheckpointError
from elir_trt.files import write_whole, written_whole
from elir_trt.model.checkpoint import TRAINING_PARTS, collapse, load_state, read_checkpoint
from elir_trt.model.elir import Elir
from elir_trt.recipe import Recipe
from elir_trt.training.average import Average
from elir_trt.training.data import Crops, Image
from elir_trt.training.losses import FlowSettings, Teacher, flow_matching_loss, lcfm_loss
from elir_trt.training.optimizer import MuonWithAdamW, adamw
from elir_trt.training.sessions import Session, device_name, dtype_name, measured_ms
from elir_trt.training.start import can_start_as_identity, deepened, start_as_identity

Phase = Literal["autoencoder", "joint", "flow"]
Progress = Callable[[dict[str, float]], None]

#: Loss "psnr": makes gradients about as long as those of "l1" at 30 dB, for the same clipping.
LOG_SCALE = 0.02
#: Crops that decide which type is faster.
MEASURED = 4


@dataclass(frozen=True)
class Settings:
    """How a phase trains.

    Attributes:
        phase: what is trained, see the module's docstring.
        batch, crop: images in a batch, their side in pixels (a multiple of 4 times the latent's down-scaling).
        rate: the highest learning rate; it warms up over ``warm_up`` iterations.
        cooling: last part of the phase in which the rate falls to zero; before, it stays, so that a training can be
            made longer or shorter while it runs (Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond
            Fixed Training Durations", NeurIPS 2024). None: a cosine over the whole phase.
        loss: of pixels ("joint"): "l1", or "psnr", the mean of the logarithms of each image's squared error, which
            gives hardly noisy images the weight that they have in the mean of PSNRs (Chen et al., "Simple Baselines
            for Image Restoration", ECCV 2022).
        log_floor: loss "psnr": squared errors from here down count for little more. 3e-5 is 45 dB, 4e-4 34 dB; the
            higher, the more of the gradient goes to heavy noise.
        clean_share: part of the batch that is fed clean ("joint"), for the latents of clean images.
        latent_noise: standard deviation, up to which noise is added to the latents that the decoder is given
            ("joint"), another one for each image: a decoder that bears it can take what the steps make of a latent.
        straight: first part of the phase that uses plain flow matching ("flow"); 0 is as published. The
            consistency loss learns from t = 1 backwards, which a short training does not finish.
        freeze_coarse: train the velocity field alone ("flow"); False is as published.
        teacher: what the latent of a clean image is ("flow"): the output of the frozen "encoder", as published, or
            the frozen "coarse" estimate from the clean image, which is what a decoder of phase "joint" knows.
        target: what the steps are to reach ("flow"): the "latent" of the clean image, as published, or what the
            decoder makes the clean "pixels" of. A decoder with a skip takes the latent of a clean image for word that
            the frame is clean, and lets its noise through.
        overparametrised: train each 3x3 convolution of the coarse estimator and the velocity field as a wider one
            and a 1x1 ("flow", as published); they collapse when the phase is over.
        optimizer: "adamw", as published, or "muon", which gets further in as many steps (see
            :class:`~elir_trt.training.optimizer.MuonWithAdamW`).
        decay: of the averaged weights.
        autocast: whether to compute in bfloat16 where that is safe; None: where it is measured to be faster, which
            is asked anew on another machine.
    """

    phase: Phase
    batch: int = 16
    crop: int = 96
    rate: float = 1e-3
    warm_up: int = 200
    cooling: float | None = None
    loss: Literal["l1", "psnr"] = "l1"
    log_floor: float = 3e-5
    clean_share: float = 0.0625
    latent_noise: float = 0.0
    straight: float = 0.0
    freeze_coarse: bool = False
    teacher: Literal["encoder", "coarse"] = "encoder"
    target: Literal["latent", "pixels"] = "latent"
    overparametrised: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"
    decay: float = 0.999
    autocast: bool | None = None


def to_tensor(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """``[N, H, W, 3]`` uint8 to ``[N, 3, H, W]`` in [0, 1], channels last in memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return (tensor.float() / 255.0).contiguous(memory_format=torch.channels_last)


def save_whole(content: Any, path: Path) -> None:
    """``torch.save``, whole or not at all."""
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def training_checkpoint(model: Elir) -> dict[str, dict[str, Tensor]]:
    """The published layout of a training checkpoint."""
    return {
        key: {
            name: value.detach().cpu().contiguous()
            for name, value in getattr(model, part).state_dict().items()
        }
        for key, part in TRAINING_PARTS.items()
    }


class Trainer:
    """One phase of training one model. ``state.pt`` in ``out`` is all that it needs to go on."""

    def __init__(
        self,
        model: Elir,
        recipe: Recipe,
        crops: Crops,
        out: Path,
        settings: Settings,
        *,
        seed: int,
        device: str,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.say = say
        self.settings, self.recipe, self.crops, self.out = settings, recipe, crops, out
        self.device = torch.device(device)
        torch.manual_seed(seed)
        if settings.overparametrised:
            model = overparametrise(model)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.requires_grad_(True).train()
        self.degrade = degradation(recipe.task)
        trained: list[nn.Module] = [model.enc, model.dec]
        if settings.phase == "joint":
            trained.append(model.mmse)
        if settings.phase == "flow":
            trained = [model.fmir] if settings.freeze_coarse else [model.enc, model.mmse, model.fmir]
            clean: list[nn.Module] = [copy.deepcopy(model.enc)]
            if settings.teacher == "coarse":
                clean.append(copy.deepcopy(model.mmse))
            self.teacher = Teacher(nn.Sequential(*clean), copy.deepcopy(model.dec))
        self.model.requires_grad_(False)
        for part in trained:
            part.requires_grad_(True)
        self.parameters = [p for part in trained for p in part.parameters()]
        make = MuonWithAdamW if settings.optimizer == "muon" else adamw
        self.optimizer = make(self.parameters, settings.rate)
        self.average = Average(model, settings.decay)
        self.flow = FlowSettings(segments=recipe.steps, noise=recipe.sigma)
        self.step, self.elapsed = 0, 0.0
        self.sessions: list[Session] = []
        self._began = False
        self.loader = ThreadPoolExecutor(1, "elir-crops")
        self.ahead: tuple[int, Future[tuple[Image, Image]] | None] = (0, None)
        out.mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        """Write the averaged weights (``elir.ckpt``) and the whole state (``state.pt``)."""
        save_whole(training_checkpoint(self.average.model), self.out / "elir.ckpt")
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "elapsed": self.elapsed,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "sessions": [asdict(session) for session in self.sessions],
            "teacher": self.teacher.state_dict() if self.settings.phase == "flow" else {},
            "optimizer": self.optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else torch.empty(0),
        }
        save_whole(state, self.out / "state.pt")
        text = json.dumps([asdict(session) for session in self.sessions], indent=1) + "\n"
        write_whole(self.out / "sessions.json", text.encode())

    def resume(self) -> bool:
        """Go on from ``state.pt``, if there is one.

        Raises:
            CheckpointError: it is of other settings.
        """
        path = self.out / "state.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != asdict(self.settings):
            differing = {k: v for k, v in state["settings"].items() if asdict(self.settings)[k] != v}
            raise CheckpointError(
                f"{path}: was trained with {differing}; use the same settings or another folder"
            )
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.sessions = [Session(**session) for session in state.get("sessions", ())]
        if self.settings.phase == "flow":
            self.teacher.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu())
        return True

    def iterate(self, progress: float) -> dict[str, float]:
        """Take one optimizer step, ``progress`` of the phase done; return the losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(progress)
        clean, degraded = self._batch()
        x, y = to_tensor(clean, self.device), to_tensor(degraded, self.device)
        losses = self._losses(x, y, progress, self.session().dtype == dtype_name(True))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def session(self) -> Session:
        """The piece of the training that runs; it begins when it is first asked for."""
        if not self._began:
            self._began = True
            self.sessions.append(self._new_session())
            if self.say is not None:
                self.say(f"{self.settings.phase}: {self.sessions[-1].told()}")
        return self.sessions[-1]

    def _new_session(self) -> Session:
        device, wanted = device_name(self.device), self.settings.autocast
        session = Session(device, "", str(torch.__version__), torch.get_num_threads(), self.step)
        before = self.sessions[-1] if self.sessions else None
        if wanted is not None:
            session.dtype = dtype_name(wanted)
        elif self.device.type == "cuda":
            session.dtype = dtype_name(True)
        elif before is not None and before.device == device:
            session.dtype = before.dtype  # Goes on with the very same numbers.
        else:
            session.measured_ms = self._measured_ms()
            session.dtype = min(session.measured_ms, key=lambda dtype: (session.measured_ms or {})[dtype])
        return session

    def _measured_ms(self) -> dict[str, float]:
        count, side = min(self.settings.batch, MEASURED), self.settings.crop
        x = torch.full((count, 3, side, side), 0.5, device=self.device)
        found = measured_ms(lambda autocast: self._losses(x, x, 1.0, autocast)["loss"])
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def _losses(self, x: Tensor, y: Tensor, progress: float, autocast: bool) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=autocast):
            return self._flow(x, y, progress) if self.settings.phase == "flow" else self._pixels(x, y)

    def _rate(self, progress: float) -> float:
        s, left = self.settings, 1.0 - min(progress, 1.0)
        warm = min(1.0, (self.step + 1) / s.warm_up)
        if s.cooling is None:
            return warm * (1e-6 + s.rate * 0.5 * (1 - math.cos(math.pi * left)))
        return warm * (1e-6 + s.rate * min(1.0, left / s.cooling))

    def _batch(self) -> tuple[Image, Image]:
        """Clean and degraded crops of this step; those of the next are made meanwhile, in another thread.

        They depend on the seed and the step alone, so that a training goes on with the same wherever it was stopped.
        """
        step, ahead = self.ahead
        if ahead is None or step != self.step:
            ahead = self.loader.submit(self._make, self.step)
        made = ahead.result()
        self.ahead = self.step + 1, self.loader.submit(self._make, self.step + 1)
        return made

    def _make(self, step: int) -> tuple[Image, Image]:
        self.crops.reseed(step)
        clean = self.crops.batch(self.settings.batch, self.settings.crop)
        return clean, np.stack([self.degrade(image, self.crops.rng) for image in clean])

    def _pixels(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        if self.settings.phase == "autoencoder":
            loss = F.l1_loss(self.model.dec(self.model.enc(x), x).float(), x)
            return {"loss": loss, "ceiling": loss}
        count = max(1, round(len(x) * self.settings.clean_share))
        fed = torch.cat([x[:count], y[count:]])
        latent = self.model.mmse(self.model.enc(fed))
        if self.settings.latent_noise:
            deviation = self.settings.latent_noise * torch.rand(len(fed), 1, 1, 1, device=latent.device)
            latent = latent + deviation * torch.randn_like(latent)
        decoded = self.model.dec(latent, fed).float()
        ceiling, restored = F.l1_loss(decoded[:count], x[:count]), F.l1_loss(decoded[count:], x[count:])
        if self.settings.loss == "psnr":
            squared = (decoded - x).square().mean(dim=(1, 2, 3))
            loss = LOG_SCALE * torch.log(squared + self.settings.log_floor).mean()
        else:
            loss = F.l1_loss(decoded, x)
        return {"loss": loss, "restored": restored, "ceiling": ceiling}

    def _flow(self, x: Tensor, y: Tensor, progress: float) -> dict[str, Tensor]:
        if self.settings.target == "pixels":
            return self._stepped_pixels(x, y)
        function = flow_matching_loss if progress < self.settings.straight else lcfm_loss
        terms = function(self.model, self.teacher, y, x, self.flow)
        return {
            "loss": terms.total,
            "coarse": terms.coarse,
            "flow": terms.flow,
            "velocity": terms.velocity,
            "pixel": terms.pixel,
        }

    def _stepped_pixels(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Steps of the velocity field from the coarse estimate, as many as is drawn, and then the decoder."""
        with torch.no_grad():
            coarse = self.model.mmse(self.model.enc(y))
        steps = int(torch.randint(1, self.flow.segments + 1, ()))
        latent = self.model.steps_from(coarse + self.flow.noise * torch.randn_like(coarse), steps)
        squared = (self.model.dec(latent, y).float() - x).square().mean(dim=(1, 2, 3))
        loss = LOG_SCALE * torch.log(squared + self.settings.log_floor).mean()
        return {"loss": loss, "pixel": squared.mean()}

    def result(self) -> Elir:
        """The averaged model, its over-parametrised convolutions collapsed."""
        state = collapse(self.average.model.state_dict())
        return load_state({key: value.float().cpu() for key, value in state.items()}, self.model.architecture)

    def run(
        self,
        *,
        budget_s: float | None = None,
        iterations: int | None = None,
        stop_at: int | None = None,
        every_s: float = 60.0,
        report: Progress | None = None,
    ) -> list[dict[str, float]]:
        """Train until the budget or the iterations are used up.

        The learning rate follows the iterations where they are given, so that a resumed training gives the
        very same numbers; on a budget it follows the clock.

        Args:
            budget_s: wall-clock seconds of this phase, those before a resume counted in.
            iterations: optimizer steps of this phase, those before a resume counted in.
            stop_at: stop (and save) at this step, to go on later.
            every_s: how often to save and report.
            report: is called with the mean losses since the last call.

        Returns:
            the losses of each step of this call.
        """
        if (budget_s is None) == (iterations is None):
            raise ValueError("give either budget_s or iterations")
        began, written, before = time.monotonic(), time.monotonic(), self.elapsed
        minutes_before = self.sessions[-1].minutes if self._began else 0.0
        history: list[dict[str, float]] = []
        since = 0
        while True:
            progress = self.step / iterations if iterations else self.elapsed / (budget_s or 1.0)
            if progress >= 1.0 or self.step == stop_at:
                break
            history.append(self.iterate(progress))
            spent = time.monotonic() - began
            self.elapsed = before + spent
            session = self.session()
            session.steps, session.minutes = self.step - session.step, minutes_before + spent / 60.0
            if time.monotonic() - written > every_s:
                written = time.monotonic()
                self._report(history[since:], report)
                since = len(history)
                self.save()
        if history[since:]:
            self._report(history[since:], report)
        self.save()
        return history

    def _report(self, history: list[dict[str, float]], report: Progress | None) -> None:
        line = {key: float(np.mean([entry[key] for entry in history])) for key in history[0]}
        line = {"step": self.step, "seconds": round(self.elapsed, 1), **line}
        with (self.out / "losses.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": self.settings.phase, **line}) + "\n")
        if report is not None:
            report(line)


def overparametrise(model: Elir) -> Elir:
    """The same map with each 3x3 convolution of the coarse estimator and the velocity field as a pair.

    The first outputs of the wider convolution are the old one's, and the 1x1 convolution picks just these.
    """
    result = Elir(model.architecture, overparametrised=True)
    state, old = result.state_dict(), model.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            if key in old and value.shape == old[key].shape:
                value.copy_(old[key])
            elif key in old:
                value[: len(old[key])] = old[key]
            elif key.endswith("weight"):  # of the 1x1 convolution
                value.copy_(torch.eye(*value.shape[:2])[:, :, None, None])
            else:
                value.zero_()
    result.load_state_dict(state)
    return result


def start_model(recipe: Recipe, weights: Path | None, seed: int, crops: Crops | None = None) -> Elir:
    """The model to train: from a checkpoint, or fresh, with a velocity of zero.

    A checkpoint of one level may have fewer blocks than the recipe: the others start as the identity.
    A fresh model starts as the identity where it has room for that and there are ``crops`` to take the principal
    components from.
    """
    torch.manual_seed(seed)
    if weights is not None:
        state = deepened(read_checkpoint(weights), recipe.architecture)
        return load_state(state, recipe.architecture, str(weights))
    model = Elir(recipe.architecture)
    nn.init.zeros_(model.fmir.final_proj.weight)
    assert model.fmir.final_proj.bias is not None
    nn.init.zeros_(model.fmir.final_proj.bias)
    if crops is not None and can_start_as_identity(model):
        start_as_identity(model, crops.batch(200, 96))
    return model
