"""Randomness, devices and files: what the other modules need from the machine."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import filelock
import torch

from tvae_core.checks import check_known

# Display names of decoders and objectives, and the thresholds above which a latent is active or
# informative. The explorer's JavaScript gets the same ones.
NAMES: dict[str, Any] = json.loads((resources.files("tvae_core") / "names.json").read_bytes())


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's generators (CPU, CUDA, MPS) seeded, then restore them.

    Draws inside the block depend only on `seed`; draws after it are as if it had not run.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        before = rng_state()  # for MPS, which fork_rng leaves out
        torch.manual_seed(seed)
        try:
            yield
        finally:
            set_rng_state(before)


def rng_state() -> dict[str, torch.Tensor]:
    """The state of every generator that training draws from, for a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    """Restore what `rng_state` returned, except for generators that this machine lacks."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def pick_device() -> torch.device:
    """The device that `TVAE_DEVICE` names, else the first found: CUDA, Apple's MPS or the CPU."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    found = {"cuda": cuda, "mps": mps, "cpu": True}
    here = [name for name, available in found.items() if available]
    name = os.environ.get("TVAE_DEVICE") or here[0]
    check_known("device (TVAE_DEVICE)", name, found)
    if name not in here:
        raise ValueError(f"TVAE_DEVICE is {name!r}, but PyTorch finds only {', '.join(here)} here")
    return torch.device(name)


def is_live() -> bool:
    """Whether a person is watching: a terminal, Jupyter, VS Code or Colab.

    Headless execution (nbconvert, nbval) is not live, so that committed outputs contain no progress
    bars or widgets.
    """
    in_kernel = "ipykernel" in sys.modules
    watched = "JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ
    return "google.colab" in sys.modules or (watched if in_kernel else sys.stderr.isatty())


SILENCE = 5.0  # seconds of waiting for another process before a line says so


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Run a block while no other process is in a block with the same lock file."""
    lock = filelock.FileLock(path)
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=SILENCE)
    if not lock.is_locked:
        print(f"waiting for another process, which holds the lock {path} (lsof shows which one)")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes to a temporary file and move it to `path`.

    A reader of `path` sees the old file or the new one, never a partial one, even after a crash.
    The first write to a folder deletes the temporary files that killed processes left there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        maker = f".+{platform.node()}+{os.getpid()}+"  # without path.name, which may be long
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=maker, delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows moves and deletes no open file
                temporary.chmod(0o644)  # NamedTemporaryFile makes it private
                os.replace(temporary, path)
            except BaseException:
                file.close()
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        advice = "; choose another folder (set TVAE_DATA for images, TVAE_RUNS for the book's runs)"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice += " or free some space"
        elif error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = ""
        raise OSError(error.errno, f"cannot write {path} ({error.strerror}){advice}") from error


@functools.cache  # once in a process: listing a folder for each of many files takes hours
def _sweep(folder: Path) -> None:
    """Delete a folder's temporary files whose makers are gone, or, since a process of another
    machine cannot be seen from here, that are a day old. (A write takes seconds.)
    """
    for file in folder.glob(".*+*+*+*"):
        host, pid, _ = file.name.rsplit("+", 3)[1:]
        with contextlib.suppress(OSError, ValueError):  # swept already, or not one of ours
            process, gone = int(pid), time.time() - file.stat().st_mtime > 86_400
            if host == platform.node() and os.name == "posix":  # on Windows os.kill would end it
                try:
                    os.kill(process, 0)
                except ProcessLookupError:
                    gone = True
            if gone:
                file.unlink()
