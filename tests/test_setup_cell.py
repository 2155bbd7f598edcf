"""The first cell of a chapter, run in Colab: what it installs, and what it says if it cannot."""

import os
import re
import shutil
import site
import subprocess
import sys
import types
import venv
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch
import yaml
from packaging.requirements import Requirement

import tvae_core

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COLAB = ROOT / "requirements-colab.txt"


def first_cell(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].source


class Colab(NamedTuple):
    """An environment, by its Python and the folder of its packages."""

    python: Path
    packages: Path

    def run(self, code: str, folder: Path, url: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TVAE_CORE_URL": url, "LANGUAGE": "en"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            [self.python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Colab:
    """An environment with torch and a kernel but without tvae_core, and a stub of google.colab.

    It takes its packages from the environment that runs the tests, through a path file. That does
    not make an editable tvae_core importable: Python reads the path file of an editable install
    only in site-packages of its own environment.
    """
    home = tmp_path_factory.mktemp("colab")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    stub = packages / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    made = Colab(python, packages)
    assert made.run("import tvae_core", home).returncode, "tvae_core must be missing at first"
    return made


# These come before the test that installs tvae_core.
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("git+https://host.invalid/book", "no connection to {url}: check the network"),
        ("git+file:///nowhere", "cannot install {url} ('/nowhere' does not appear to be a git"),
        ("git+{folder}@v0", "cannot install {url} (pathspec 'v0' did not match any"),
    ],
    ids=["no network", "no repository", "no release"],
)
def test_a_failed_installation_is_one_sentence(colab, tmp_path, url, sentence):
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.invalid", "-C", tmp_path]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Begin"], check=True)
    url = url.format(folder=tmp_path.as_uri())
    done = colab.run(first_cell(NOTEBOOKS[0]), tmp_path, url)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"RuntimeError: {sentence.format(url=url)}"), done.stderr


@pytest.mark.install
def test_a_chapter_alone_in_an_empty_folder_installs_the_module_and_runs(colab, tmp_path):
    """As in Colab, except for the address: pip installs from this repository's last commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to install from")
    shutil.copy(NOTEBOOKS[0], tmp_path / "chapter.ipynb")
    script = (
        "import nbformat, nbclient\n"
        "notebook = nbformat.read('chapter.ipynb', 4)\n"
        "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()\n"
        "nbformat.write(notebook, 'done.ipynb')\n"
    )
    before = {*colab.packages.iterdir()}
    done = colab.run(script, tmp_path, f"git+{ROOT.as_uri()}")
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "done.ipynb", 4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    # And nothing else: torch and numpy are those that were there. (setuptools came with venv, and
    # hides the newer one that torch asks for.)
    added = {path.name.partition("-")[0] for path in {*colab.packages.iterdir()} - before}
    assert added - {"setuptools"} == {"tvae_core"}


def test_no_package_of_colab_is_replaced():
    """pip leaves a package alone whose version is in the range that tvae_core asks for."""
    listed = re.findall(r"(?m)^([\w-]+)==([\w.]+)", COLAB.read_text(encoding="utf-8"))
    needed = [Requirement(line) for line in metadata.requires("tvae-core")]
    assert {"torch", "numpy"} <= {n.name for n in needed} & {name for name, _ in listed}
    for requirement in needed:
        for name, version in listed:
            if name == requirement.name:
                assert requirement.specifier.contains(version), requirement
        assert all(limit.operator == ">=" for limit in requirement.specifier), requirement


@pytest.mark.parametrize("version", ["0.0.9", "99.0"])
def test_another_tvae_core_is_named(monkeypatch, version):
    needed, found = re.escape(tvae_core.__version__), re.escape(version)
    monkeypatch.setattr(tvae_core, "__version__", version)
    sentence = rf"needs tvae_core {needed}, but {found} is .* `%pip install git\+\S+`, restart"
    with pytest.raises(RuntimeError, match=sentence):
        exec(first_cell(NOTEBOOKS[0]), {})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_without_a_gpu_colab_says_how_long_the_chapter_takes(notebook, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    exec(first_cell(notebook), {})
    assert capsys.readouterr().out == ""  # not in Colab
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(first_cell(notebook), {})
    said = " ".join(capsys.readouterr().out.split())
    title = " ".join(nbformat.read(notebook, as_version=4).cells[1].source.split())
    assert said.startswith("No GPU is selected; to select one: Runtime > Change runtime type. ")
    assert f"minutes of reading. {said.partition('type. ')[2]}" in title
    assert re.search("minute|second|quick", said)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    exec(first_cell(notebook), {})
    assert capsys.readouterr().out == ""


def test_the_release_has_one_name():
    """What a page installs in Colab, what it is opened from, and what is released."""
    tag = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["branch"]
    assert tag == f"v{tvae_core.__version__}"
    assert f"@{tag}" in first_cell(NOTEBOOKS[0])
    for file in ("pyproject.toml", "CITATION.cff"):
        found = re.findall(
            r'(?m)^version(?:: | = ")([\d.]+)', (ROOT / file).read_text(encoding="utf-8")
        )
        assert found == [tvae_core.__version__], file
