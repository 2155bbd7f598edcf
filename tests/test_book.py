"""Generated files agree with their sources; a chapter on its own installs the module and runs."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from statistics import mean

import nbformat
import pytest
import yaml

from tvae_core.experiments import results
from tvae_core.experiments.configs import DECODERS, RUNS
from tvae_core.experiments.study import PRINTED

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["tables", "setup_cells"])
def test_generated_files_are_up_to_date(tool):
    done = subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", "--check"],
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


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """An environment with torch and a kernel but without tvae_core, and a stub of google.colab.

    It takes its packages from the environment that runs the tests, through a path file. That does
    not make an editable tvae_core importable: Python reads the path file of an editable install
    only in site-packages of its own environment.
    """
    home = tmp_path_factory.mktemp("colab")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(packages, "lent.pth").write_text(
        "\n".join(site.getsitepackages()) + "\n", encoding="utf-8"
    )
    stub = Path(packages, "google", "colab")
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("", encoding="utf-8")
    found = subprocess.run([python, "-c", "import tvae_core"], cwd=home, capture_output=True)
    assert found.returncode != 0, "tvae_core must be missing before the notebook installs it"
    return python


@pytest.mark.install
def test_a_chapter_alone_in_an_empty_folder_installs_the_module_and_runs(colab, tmp_path):
    """As in Colab, except for the address: pip installs from this repository's last commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to install from")
    shutil.copy(ROOT / "notebooks" / "01_vae.ipynb", tmp_path / "chapter.ipynb")
    script = (
        "import nbformat, nbclient\n"
        "notebook = nbformat.read('chapter.ipynb', 4)\n"
        "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()\n"
        "nbformat.write(notebook, 'done.ipynb')\n"
    )
    environment = {**os.environ, "TVAE_CORE_URL": f"git+file://{ROOT}"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [colab, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "done.ipynb", 4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    where = subprocess.run(
        [colab, "-c", "import tvae_core; print(tvae_core.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert str(ROOT) not in where
