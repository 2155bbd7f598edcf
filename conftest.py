"""The conditions under which the tests, and the notebooks as tests, run."""

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before torch is imported and before a notebook's kernel starts.

    The kernels inherit it. The profile is `smoke`, so that a notebook takes seconds; the data
    folder is empty and fresh, so that only the bundled digits can be read and nothing depends on
    what this machine has downloaded; runs go to a fresh folder, so that nothing is resumed. All is
    computed on the CPU, whose numbers the notebooks hold, and on a GPU only what asks for it. One
    thread each, because pytest runs a process on every core. MPLBACKEND is left alone: a kernel
    needs its inline backend to show figures.
    """
    scratch = tempfile.TemporaryDirectory(prefix="tvae-tests-")
    config.add_cleanup(scratch.cleanup)
    for name in ("runs", "data"):
        folder = os.path.join(scratch.name, name)
        os.mkdir(folder)
        os.environ[f"TVAE_{name.upper()}"] = folder
    os.environ["TVAE_PROFILE"] = "smoke"
    os.environ["TVAE_DEVICE"] = "cpu"
    # Marks of a live session, from the terminal that started the tests: they bring out progress
    # bars and widgets.
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = "1"
