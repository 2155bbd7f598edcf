"""The environment in which the tests run, including the notebooks, which run as tests."""

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before torch is imported and before a notebook's kernel starts.

    The kernels inherit it. The profile is `smoke`, so that a notebook takes seconds. The data
    folder is new and empty: only the bundled digits can be read, whatever this machine has
    downloaded. Runs go to a new folder, so that nothing is resumed. Everything runs on the CPU,
    where the numbers in the notebooks come from; only tests that ask for a GPU use one. One thread
    per process, because pytest runs a process on every core. MPLBACKEND is left alone: a kernel
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
    # The terminal that starts the tests may be part of a live session. These variables would turn
    # on progress bars and widgets.
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Let nbval compare no drawings, as it compares no pictures: digits of a coordinate differ."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("image/svg+xml",)
