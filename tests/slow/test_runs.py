"""Runs trained by several processes, and several seeds trained as one model."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_records import TINY
from test_reproduce import ALL, SMALL, finished

from tvae_core import experiments


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TVAE_PROFILE", "smoke")
    return tmp_path / "runs"


def test_two_processes_under_torchrun_divide_the_runs_between_them(runs):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    done = subprocess.run(
        [*command, "-m", "tvae_core.reproduce", *SMALL],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert finished(runs) == ALL
    assert done.stdout.count("epoch   1:") == 4  # no run was trained twice
    for rank in (0, 1):
        assert f"worker {rank} of 2: 2 of 4 tasks" in done.stdout


def test_seeds_trained_side_by_side_agree_with_seeds_trained_alone(runs):
    digits = experiments.load_data(TINY)
    profile = dataclasses.replace(TINY, epochs={1: 20})
    seeds = range(5)
    alone = experiments.run_seeds("plain-vae", *digits, seeds, profile, side_by_side=False)
    shutil.rmtree(runs)
    together = experiments.run_seeds("plain-vae", *digits, seeds, profile, side_by_side=True)
    means = [
        torch.tensor([run.record.nll.mean for run in group], dtype=torch.float64)
        for group in (alone, together)
    ]
    standard_error = sum(mean.var() / len(seeds) for mean in means).sqrt()
    assert abs(means[0].mean() - means[1].mean()) < 4 * standard_error
