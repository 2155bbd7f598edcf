"""Generated files agree with their sources, and the book with the study."""

import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import yaml

from tvae_core.experiments import results
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.study import PRINTED

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "tool",
    ["-m tools.tables", "tools/setup_cells.py", "tools/question_cells.py", "tools/diagrams.py"],
)
def test_generated_files_are_up_to_date(tool):
    done = subprocess.run(
        [sys.executable, *tool.split(), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_address_of_the_repository_is_written_only_in_the_configuration():
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    tracked = subprocess.run(
        ["git", "grep", "-l", url.removeprefix("https://")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    derived = {"README.md", *(f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb"))}
    assert set(tracked) <= {"_config.yml", *derived}


def test_the_nine_models_of_the_study_ship_with_weights_and_record():
    for model in DECODERS:
        for objective in ("vae", "multi5", "iwae5"):
            assert results.load_pretrained(f"{model}-{objective}").record.seed == 0
    assert set(results.recorded()) <= set(RUNS)


def test_recorded_runs_are_complete_paper_runs(subtests):
    for name in results.recorded():
        with subtests.test(name):
            record = results.record_of(name)
            assert record.name == name
            assert record.profile == "paper"
            assert record.data["train"]["n"] == 60_000
            assert record.nll_ks[-1] == 5_000
            assert len(record.curves) == record.config["epochs"]
            assert len(record.nll_per_image) == record.data["test"]["n"] >= 2_000
            assert mean(record.nll_per_image) == pytest.approx(record.nll[0], abs=1e-3)
            # The mean over seeds may come from fewer images.
            assert results.over_seeds(name)[0] == pytest.approx(record.nll[0], abs=1)


@pytest.mark.parametrize("model", PRINTED)
def test_the_gray_numbers_of_the_study_are_reproduced(model):
    recon, nll = (mean(results.over_seeds(f"{model}-vae", field)) for field in ("recon", "nll"))
    assert recon == pytest.approx(PRINTED[model].recon, abs=1.5)
    assert nll == pytest.approx(PRINTED[model].nll, abs=2)
