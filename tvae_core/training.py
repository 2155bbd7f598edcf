"""The training loop, its optimizers and its checkpoints."""

from __future__ import annotations

import functools
import inspect
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from numbers import Number
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tvae_core.estimators import Estimator
from tvae_core.runtime import is_live, rng_state, set_rng_state, write_atomically

History = list[dict[str, Any]]
CHECK_EVERY = 50  # batches between checks that the loss is finite; each waits for the device

# Takes a model, the number of epochs and the number of batches per epoch; returns an optimizer and
# its learning-rate schedule, which advances after each batch.
MakeOptimizer = Callable[[nn.Module, int, int], tuple[torch.optim.Optimizer, Any]]

# Takes a batch; returns the loss, and the means of bound, recon, kl_z and kl_u over the batch.
Loss = Callable[[Tensor], tuple[Tensor, Tensor]]
# Takes a batch and makes a whole training step, like the loop body in `fit`; returns the same four
# means.
Step = Callable[[Tensor], Tensor]


def adadelta(
    model: nn.Module, epochs: int, batches: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The study's optimizer: AdaDelta (Zeiler 2012), learning rate (1 - epoch / epochs)^0.9."""
    rate = _rate(model, 1.0)
    opt = torch.optim.Adadelta(model.parameters(), lr=rate, capturable=rate.is_cuda)
    return opt, torch.optim.lr_scheduler.LambdaLR(
        opt, lambda step: max(0.0, 1 - step // batches / epochs) ** 0.9
    )


def adam(
    model: nn.Module, epochs: int, batches: int, peak: float = 1e-3
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam (Kingma & Ba 2015) with the constant learning rate `peak`."""
    opt = _adam(model, peak)
    return opt, torch.optim.lr_scheduler.ConstantLR(opt, factor=1.0)


def adam_one_cycle(
    model: nn.Module, epochs: int, batches: int, peak: float = 2e-3
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam; the learning rate rises to `peak` over the first tenth of the steps, then falls to
    almost zero along a cosine (Smith & Topin 2019, but with a single phase of descent)."""
    opt = _adam(model, peak)
    return opt, torch.optim.lr_scheduler.OneCycleLR(
        opt, peak, total_steps=epochs * batches + 1, pct_start=0.1, cycle_momentum=False
    )


def _adam(model: nn.Module, value: float) -> torch.optim.Adam:
    rate = _rate(model, value)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.Adam(model.parameters(), lr=rate, capturable=rate.is_cuda, fused=fused)


def _rate(model: nn.Module, value: float) -> Tensor:
    """A learning rate as a tensor, so that a compiled step reads its current value."""
    return torch.tensor(value, device="cuda" if next(model.parameters()).is_cuda else "cpu")


class Epochs(Protocol):
    """What `fit` trains on: each iteration yields one epoch, of `len` batches."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Tensor]: ...


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite. The last checkpoint was saved before that happened."""


def fit(
    model: Any,
    batches: Epochs,
    estimator: Estimator,
    *,
    k: int = 1,
    epochs: int = 50,
    optimizer: MakeOptimizer = adadelta,
    warm_up: int = 0,
    checkpoint: Path | None = None,
    accelerate: Callable[[Loss, torch.optim.Optimizer], Step] | None = None,
    after_epoch: Callable[[History], object] | None = None,
) -> History:
    """Maximise an estimated bound; return one row per epoch (means per image, in nats).

    `batches` yields images (B, C, H, W), one epoch per iteration, like `data.Batches`; `k` is the
    number of draws per image. Rows hold epoch, bound, recon, kl_z, kl_u, learning_rate and seconds.
    Over the first `warm_up` epochs the KL weight rises linearly from 0 to 1; the logged bound
    always includes the full KL.

    Call it inside `with seeded(...)` for a result that depends only on the seed. With a
    `checkpoint` path the state is saved after each epoch, and a later call with the same arguments
    resumes from there with the same result as an uninterrupted run (bit for bit on a CPU).

    `accelerate` returns a faster version of the loop body with the same results up to rounding: see
    `tvae_core.experiments.acceleration`. A stack of S models (`experiments.stacking`) trains on
    stacked batches; its rows hold lists of S values.

    `after_epoch` is called with the history so far, before the checkpoint is saved. It may add to
    the last row; training ends once that row has a true "stop".

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
        ValueError: a checkpoint that is damaged, or of a call with other settings. (Functions are
            compared by name, with what they were made from: two lambdas look the same. Only the
            number and the size of batches are compared.)
    """
    opt, schedule = optimizer(model, epochs, len(batches))
    kl_weight = torch.ones((), device=next(model.parameters()).device)
    given: dict[str, Any] = {"epochs": epochs, "k": k, "warm_up": warm_up, "estimator": estimator}
    given |= {"optimizer": optimizer, "type(opt)": type(opt), "len(batches)": len(batches)}
    given |= {name: getattr(batches, name, None) for name in ("batch_size", "binarization")}
    settings = {name: _described(value) for name, value in given.items()}
    parts = {"model": model, "optimizer": opt, "schedule": schedule}
    history: History = []
    if checkpoint is not None and checkpoint.exists():
        history = _resume(checkpoint, settings, parts)

    def compute_loss(x: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the batch's mean bound, recon, kl_z and kl_u: (4,), or (4, S)."""
        particles = model.particles(x, k)
        objective = (estimator(particles, kl_weight) if warm_up else estimator(particles)).mean(-1)
        with torch.no_grad():
            bound = objective
            if warm_up:
                bound = estimator(particles._replace(latents=particles.latents.detach())).mean(-1)
            kls = (kl.sum(-1).mean(-1) for kl in model.split(particles.kl))
            terms = torch.stack([bound, -particles.log_lik.mean((0, -1)), *kls])
        return -objective.sum(), terms

    fast_step = accelerate(compute_loss, opt) if accelerate is not None else None
    stopped = bool(history) and history[-1].get("stop", False)
    for epoch in range(len(history) + 1, 1 if stopped else epochs + 1):
        start = time.perf_counter()
        learning_rate = float(schedule.get_last_lr()[0])
        meter = _Meter(epoch, epochs, len(batches))
        for done, x in enumerate(batches):
            if warm_up:
                kl_weight.fill_(min(1.0, (epoch - 1 + done / len(batches)) / warm_up))
            if fast_step is not None:
                terms = fast_step(x)
            else:
                loss, terms = compute_loss(x)
                opt.zero_grad()
                loss.backward()
                opt.step()
            schedule.step()
            meter.add(x.shape[-4], terms)
        row = {"epoch": epoch, **meter.close(), "learning_rate": learning_rate}
        history.append({**row, "seconds": time.perf_counter() - start})
        if epoch % print_every(epochs) == 0 and not is_live():
            print(describe(history[-1]), flush=True)
        if after_epoch is not None:
            after_epoch(history)
        if checkpoint is not None:
            _save(checkpoint, settings, parts, history)
        if history[-1].get("stop"):
            break
    return history


def print_every(epochs: int) -> int:
    """Epochs from one printed line to the next, for about ten lines in total."""
    return max(1, epochs // 10)


def describe(row: dict[str, Any]) -> str:
    """A line that describes one epoch of a history; for a stack of models, their means."""
    bound, recon, kl_z, kl_u = (torch.tensor(row[name]).mean().item() for name in _Meter.NAMES)
    return (
        f"epoch {row['epoch']:3d}: bound {bound:8.2f}, recon {recon:6.2f}, "
        f"KL(z) {kl_z:5.2f}, KL(u) {kl_u:5.2f}"
    )


class _Meter:
    """Means of an epoch's terms, which stay on the device for CHECK_EVERY batches at a time."""

    NAMES = ("bound", "recon", "kl_z", "kl_u")

    def __init__(self, epoch: int, epochs: int, n_batches: int) -> None:
        self.epoch = epoch
        self.start = time.perf_counter()
        self.pending: list[Tensor] = []
        self.counts: list[int] = []
        self.sums = torch.zeros((), dtype=torch.float64)
        self.batches, self.images = 0, 0
        self.bar = tqdm(
            total=n_batches,
            desc=f"epoch {epoch}/{epochs}",
            unit="batch",
            disable=not is_live(),
            leave=epoch == epochs,
        )

    def add(self, count: int, terms: Tensor) -> None:
        """Add a batch: its number of images, and the means of its terms, (4,) or (4, S)."""
        self.pending.append(terms)
        self.counts.append(count)
        if len(self.pending) == CHECK_EVERY:
            self.check()

    def check(self) -> None:
        """Read the terms of the pending batches; raise an error for the first non-finite ones."""
        if not self.pending:
            return
        terms = torch.stack(self.pending).cpu().double()
        for offset, row in enumerate(terms):
            if not row.isfinite().all():
                values = zip(self.NAMES, row.tolist(), strict=True)
                named = ", ".join(f"{name} = {value}" for name, value in values)
                self.bar.close()
                raise NonFiniteLossError(
                    f"the loss is not finite in epoch {self.epoch}, batch "
                    f"{self.batches + offset + 1}: {named}. Lower the learning rate, or look at "
                    "the images."
                )
        counts = torch.tensor(self.counts, dtype=torch.float64)
        self.sums = self.sums + torch.tensordot(counts, terms, 1)
        self.batches += len(terms)
        self.images += sum(self.counts)
        self.bar.update(len(terms))
        loss, elbo = -terms[-1, 0].mean(), -terms[-1, 1:].sum(0).mean()
        rate = self.images / (time.perf_counter() - self.start)
        self.bar.set_postfix_str(f"loss {loss:.2f}, ELBO {elbo:.2f}, {rate:,.0f} images/s")
        self.pending, self.counts = [], []

    def close(self) -> dict[str, Any]:
        self.check()
        self.bar.close()
        return dict(zip(self.NAMES, (self.sums / self.images).tolist(), strict=True))


def _described(value: Any, depth: int = 4) -> str:
    """A function's name, with the functions and options that it was made from.

    Objects whose text may differ from one process to the next are described by their types.
    """
    if isinstance(value, str | Number):
        return str(value)
    value = inspect.unwrap(value) if callable(value) else value
    parts = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    inside = ", ".join(_described(part, depth - 1) for part in parts) if depth else ""
    return getattr(value, "__qualname__", type(value).__name__) + f"({inside})" * bool(inside)


def _save(path: Path, settings: dict[str, str], parts: dict[str, Any], history: History) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"settings": settings, "rng": rng_state(), "history": history}
    # Not straight to the file: torch.save would hide an error of the disk, or a Ctrl-C.
    torch.save(state, buffer := io.BytesIO())
    write_atomically(path, buffer.getvalue())


def _resume(path: Path, settings: dict[str, str], parts: dict[str, Any]) -> History:
    model, opt, schedule = parts.values()
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not check checksums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it contains no training state")
        kept = state.get("settings")
        if kept is None:  # it could be from any run
            raise ValueError("an earlier version saved it, without its settings")
        for name, value in settings.items():
            if kept[name] != value:
                raise ValueError(f"{name} was {kept[name]}, and is {value} now")
        model.load_state_dict(state["model"])
        rates = [group["lr"] for group in opt.param_groups]
        opt.load_state_dict(state["optimizer"])
        for group, rate in zip(opt.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):
                group["lr"] = rate.copy_(group["lr"])  # keeps its device
        schedule.load_state_dict(state["schedule"])
        history: History = state["history"]
        set_rng_state(state["rng"])
    except OSError:
        raise
    except Exception as error:  # zip, pickle and torch raise different errors for damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"the checkpoint {path} is damaged or belongs to another run ({reason}); "
            "delete it to train from the start"
        ) from error
    return history
