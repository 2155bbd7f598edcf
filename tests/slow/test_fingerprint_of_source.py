"""Edits of the source that change a fingerprint, and edits that do not.

Each edit is made in a copy of the package, where another process computes the fingerprints of three
configs and of two kinds of measurement.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tvae_core

PACKAGE = Path(tvae_core.__file__).parent
SCRIPT = """
import json
from tvae_core.experiments import measure, runner
from tvae_core.experiments.configs import RUNS
found = {name: runner.fingerprint(RUNS[name]) for name in ("tps-vae", "affine-iwae5-modern")}
print(json.dumps(found | {kind: measure.fingerprint(kind) for kind in ("nll", "ais", "snr")}))
"""
GRAY, MODERN = "tps-vae", "affine-iwae5-modern"  # two runs that share no option but hidden sizes
RUNS = {GRAY, MODERN}
NOTHING: set[str] = set()

# (file, what stands there, what is written instead, what notices)
EDITS = [
    ("training.py", "fast_step", "quick_step", NOTHING),
    ("training.py", '"""Maximise an estimated bound', '"""Raise an estimated bound', NOTHING),
    ("bounds.py", "import math", "# A comment.\nimport math", NOTHING),
    ("experiments/runner.py", "k=config.k,", "k=1,", {MODERN}),
    ("experiments/runner.py", "warm_up=config.warm_up or 0,", "", {MODERN}),
    ("experiments/runner.py", 'if config.start == "mean":', "if False:", {MODERN}),
    ("experiments/runner.py", "images, config.batch_size,", "images, 128,", {MODERN}),
    (
        "experiments/runner.py",
        "config.batch_size, config.binarization, stack",
        "100, stack=stack",
        RUNS,
    ),
    ("experiments/runner.py", "return test if config", "return test if True or config", {MODERN}),
    (
        "experiments/runner.py",
        "            config.gradient,\n",
        "            estimators.analytic_kl,\n",
        {MODERN},
    ),
    ("experiments/configs.py", "self.estimator or self.objective", "self.objective", {MODERN}),
    (
        "experiments/configs.py",
        "functools.partial(optimizer, peak=self.peak)",
        "optimizer",
        {MODERN},
    ),
    ("training.py", "** 0.9", "** 0.8", {GRAY}),
    ("training.py", "pct_start=0.1", "pct_start=0.2", {MODERN}),
    ("estimators.py", "factor.unsqueeze(-1) * gradient", "gradient", {MODERN, "snr"}),
    ("estimators.py", "- kl_weight * particles.kl", "+ kl_weight * particles.kl", {GRAY}),
    ("particles.py", "(self.log_q - self.log_prior)", "self.log_q", {*RUNS, "nll", "ais"}),
    ("estimators.py", "log_w.softmax(0)", "log_w.softmax(-1)", {MODERN}),
    ("estimators.py", "(curvature / slope)", "(slope / curvature)", {"snr"}),
    ("bounds.py", "math.log(len(log_w))", "math.log(log_w.shape[-1])", {MODERN}),
    ("warps.py", "+ 1) / width - 1", "+ 0) / width - 1", {*RUNS, "nll", "ais", "snr"}),
    ("evaluation.py", "math.log(weights) - log_sums[0]", "-log_sums[0]", {*RUNS, "ais"}),
    ("diagnostics.py", "(inverse_ess - 1 / k) / 2", "inverse_ess / 2", {"nll"}),
    ("ais.py", "(step if left else step / 2)", "step", {"ais"}),
    ("gradients.py", "spread / (repeats - 1)", "spread / repeats", {"snr"}),
    ("experiments/kinds.py", 'leapfrog": options.leapfrog', 'leapfrog": 1', {"ais"}),
]


@pytest.fixture
def source(tmp_path) -> Path:
    return shutil.copytree(
        PACKAGE, tmp_path / "tvae_core", ignore=shutil.ignore_patterns("__pycache__", "shipped")
    )


def fingerprints(source: Path) -> dict[str, str]:
    (source / "shipped").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(source.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=source.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def unedited(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("unedited")
    ignored = shutil.ignore_patterns("__pycache__", "shipped")
    return fingerprints(Path(shutil.copytree(PACKAGE, folder / "tvae_core", ignore=ignored)))


@pytest.mark.parametrize(("file", "old", "new", "noticed"), EDITS)
def test_what_notices_an_edit(source, unedited, file, old, new, noticed):
    path = source / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    if "estimators." in new:
        text = text.replace(
            "from tvae_core import data,", "from tvae_core import estimators, data,"
        )
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = fingerprints(source)
    assert {name for name in found if found[name] != unedited[name]} == noticed


def test_moving_a_file_changes_nothing(source, unedited):
    (source / "warps.py").rename(source / "geometry.py")
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("tvae_core.warps", "tvae_core.geometry").replace(
            '"warps"', '"geometry"'
        )
        path.write_text(text, encoding="utf-8")  # the second is in __init__.py
    assert fingerprints(source) == unedited
