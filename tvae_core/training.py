"""The training loop, its optimizers, its checkpoints."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tvae_core.particles import Particles
from tvae_core.runtime import check_known, is_live, rng_state, set_rng_state, write_atomically

History = list[dict[str, float]]
CHECK_EVERY = 50  # batches between two looks at the loss; each look waits for the device


def adadelta(model: nn.Module, epochs: int) -> tuple[torch.optim.Optimizer, Any]:
    """The study's recipe: AdaDelta (Zeiler 2012), learning rate (1 - epoch / epochs)^0.9."""
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: (1 - epoch / epochs) ** 0.9
    )


def adam(model: nn.Module, epochs: int) -> tuple[torch.optim.Optimizer, Any]:
    """Adam (Kingma & Ba 2015), learning rate 1e-3 throughout."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


OPTIMIZERS = {"adadelta": adadelta, "adam": adam}


class Epochs(Protocol):
    """What `fit` trains on: each iteration is one epoch of batches, `len` is their number."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Tensor]: ...


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the last checkpoint is from before."""


def fit(
    model: Any,
    batches: Epochs,
    estimator: Callable[[Particles], Tensor],
    *,
    k: int = 1,
    epochs: int = 50,
    optimizer: str = "adadelta",
    checkpoint: Path | None = None,
) -> History:
    """Maximise an estimated bound; return one row per epoch (means over its images, in nats).

    `batches` gives images (B, 1, H, W) and may be iterated once per epoch, like `data.Batches`;
    `k` is the number of draws per image. Rows hold epoch, bound, recon, kl_z, kl_u,
    learning_rate and seconds.

    Run it inside `with seeded(...)` for a result that depends on the seed alone. With a
    `checkpoint` path the state is kept after each epoch, and a later call goes on from there to
    the result of an uninterrupted one (bit for bit on a CPU).

    Raises:
        NonFiniteLossError: names the epoch, the batch and the terms.
        ValueError: an unknown optimizer, or a damaged or foreign checkpoint.
    """
    check_known("optimizer", optimizer, OPTIMIZERS)
    opt, schedule = OPTIMIZERS[optimizer](model, epochs)
    history: History = []
    if checkpoint is not None and checkpoint.exists():
        history = _resume(checkpoint, model, opt, schedule)
    for epoch in range(len(history) + 1, epochs + 1):
        start = time.perf_counter()
        learning_rate = schedule.get_last_lr()[0]
        meter = _Meter(epoch, epochs, len(batches))
        for x in batches:
            particles = model.particles(x, k)
            bound = estimator(particles).mean()
            opt.zero_grad()
            (-bound).backward()
            opt.step()
            kl_z, kl_u = model.split(particles.kl)
            meter.add(len(x), bound, -particles.log_lik.mean(), kl_z, kl_u)
        schedule.step()
        row = {"epoch": epoch, **meter.close(), "learning_rate": learning_rate}
        history.append({**row, "seconds": time.perf_counter() - start})
        if epoch % block(epochs) == 0 and not is_live():
            print(describe(history[-1]), flush=True)
        if checkpoint is not None:
            _save(checkpoint, model, opt, schedule, history)
    return history


def block(epochs: int) -> int:
    """Epochs per printed line: ten lines in all."""
    return max(1, epochs // 10)


def describe(row: dict[str, float]) -> str:
    """One line for one epoch of a history."""
    return (
        f"epoch {row['epoch']:3d}: bound {row['bound']:8.2f}, recon {row['recon']:6.2f}, "
        f"KL(z) {row['kl_z']:5.2f}, KL(u) {row['kl_u']:5.2f}"
    )


class _Meter:
    """Means of an epoch's terms, kept on the device and looked at every CHECK_EVERY batches."""

    NAMES = ("bound", "recon", "kl_z", "kl_u")

    def __init__(self, epoch: int, epochs: int, n_batches: int) -> None:
        self.epoch = epoch
        self.start = time.perf_counter()
        self.pending: list[Tensor] = []
        self.counts: list[int] = []
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64)
        self.batches, self.images = 0, 0
        self.bar = tqdm(
            total=n_batches,
            desc=f"epoch {epoch}/{epochs}",
            unit="batch",
            disable=not is_live(),
            leave=epoch == epochs,
        )

    def add(self, count: int, bound: Tensor, recon: Tensor, kl_z: Tensor, kl_u: Tensor) -> None:
        kls = kl_z.sum(-1).mean(), kl_u.sum(-1).mean()
        self.pending.append(torch.stack([bound, recon, *kls]).detach())
        self.counts.append(count)
        if len(self.pending) == CHECK_EVERY:
            self.check()

    def check(self) -> None:
        """Read the pending batches' terms back; stop at the first that is not finite."""
        if not self.pending:
            return
        terms = torch.stack(self.pending).cpu().double()
        for offset, row in enumerate(terms):
            if not row.isfinite().all():
                named = ", ".join(f"{n} = {v:g}" for n, v in zip(self.NAMES, row, strict=True))
                self.bar.close()
                raise NonFiniteLossError(
                    f"the loss is not finite in epoch {self.epoch}, batch "
                    f"{self.batches + offset + 1}: {named}. Lower the learning rate, or look at "
                    "the images; the last checkpoint is from the end of the epoch before."
                )
        counts = torch.tensor(self.counts, dtype=torch.float64)
        self.sums += counts @ terms
        self.batches += len(terms)
        self.images += sum(self.counts)
        self.bar.update(len(terms))
        loss, elbo = -terms[-1, 0], -terms[-1, 1:].sum()
        rate = self.images / (time.perf_counter() - self.start)
        self.bar.set_postfix_str(f"loss {loss:.2f}, ELBO {elbo:.2f}, {rate:,.0f} images/s")
        self.pending, self.counts = [], []

    def close(self) -> dict[str, float]:
        self.check()
        self.bar.close()
        return dict(zip(self.NAMES, (self.sums / self.images).tolist(), strict=True))


def _save(path: Path, model: nn.Module, opt: Any, schedule: Any, history: History) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": opt.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": rng_state(),
        "history": history,
    }
    write_atomically(path, lambda file: torch.save(state, file))


def _resume(path: Path, model: nn.Module, opt: Any, schedule: Any) -> History:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no training state")
        kept, ours = (s["param_groups"][0].keys() for s in (state["optimizer"], opt.state_dict()))
        if kept != ours:
            raise ValueError("it is from another optimizer")
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history: History = state["history"]
        set_rng_state(state["rng"])
    except OSError:
        raise
    except Exception as error:  # whatever zip, pickle and torch trip over, it is no checkpoint
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"the checkpoint {path} is damaged or belongs to another run ({reason}); "
            "delete it to train from the start"
        ) from error
    return history
