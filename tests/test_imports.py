"""The arrows of the design: what may import what, read from the source."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tvae_core

PACKAGE = Path(tvae_core.__file__).parent
MODULES = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"} | {
    path.parent.name: sorted(path.parent.rglob("*.py")) for path in PACKAGE.glob("*/__init__.py")
}

# Downwards only. runtime is below all; study holds printed numbers and needs nothing.
PIECES = {"data", "networks", "warps", "particles", "bounds", "training", "records"}
BUILT = {"models", "estimators", "evaluation"}
MAY_IMPORT = {
    "runtime": set(),
    "study": set(),
    "provenance": set(),
    "acceleration": set(),
    **{piece: {"runtime"} for piece in PIECES},
    "training": {"runtime", "acceleration", "particles"},  # the last for a type
    "models": {"runtime", "networks", "warps", "particles"},  # no bounds, estimators, training
    "estimators": {"runtime", "particles", "bounds"},
    # No estimators, training or bounds: no knob of training can reach a reported number.
    "evaluation": {"runtime", "acceleration", "data", "models", "particles"},
    # Nor here: these are measurements of a trained model, as evaluation is.
    "ais": {"runtime", "models"},
    "diagnostics": {"runtime", "data", "models", "networks"},
    "gradients": {"estimators", "models"},
    # What the runs are, what they gave, how they are made, and the command that makes all.
    "recipes": {"bounds", "estimators", "training"},
    "results": {"runtime", "study", "models", "records"},
    "experiments": {
        *("runtime", "acceleration", "provenance", "recipes", "results", *PIECES, *BUILT)
    },
    "reproduce": {
        *("runtime", "acceleration", "recipes", "experiments", "data", "models", "evaluation")
    },
    "measure": {
        *("runtime", "acceleration", "provenance", "results", "experiments", "diagnostics"),
        *("ais", "gradients", "data", "models", "bounds", "estimators", "evaluation"),
    },
    # Leaves: they may look at all, and nothing of the above at them.
    "plots": {"runtime", *PIECES, *BUILT},
    "explorer": {"runtime", "plots", "results", *PIECES, *BUILT},
}
# Heavy or particular packages, and the only modules that may need them. tqdm.auto is not meant:
# it finds out by itself whether there are widgets.
RESERVED = {
    "matplotlib": {"plots", "explorer"},
    "cycler": {"plots"},
    "anywidget": {"explorer"},
    "ipywidgets": set(),  # by way of anywidget
    "IPython": set(),
    "torchvision": {"data"},
    "safetensors": {"experiments", "results"},
    "scipy": {"results"},
}


def imported(module: str) -> set[str]:
    """Dotted names of all that a module imports, wherever in its code."""
    names = set()
    for path in MODULES[module]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} imports relatively"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names.add(ast.literal_eval(node.args[0]))
    return names


def ours(module: str) -> set[str]:
    """The modules of tvae_core among them."""
    return {name.split(".")[1] for name in imported(module) if name.startswith("tvae_core.")}


def test_every_module_has_its_place():
    assert set(MODULES) == set(MAY_IMPORT)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    assert ours(module) - {module} <= MAY_IMPORT[module]


@pytest.mark.parametrize("package", RESERVED)
def test_only_the_modules_meant_for_it_import(package):
    importers = {m for m in MODULES if any(n.split(".")[0] == package for n in imported(m))}
    assert importers <= RESERVED[package]


def test_the_reading_of_imports_sees_them():
    # Without this, a reader that finds nothing would make every law above hold.
    assert ours("experiments") >= {"data", "models", "training", "recipes", "runtime"}
    assert ours("explorer") >= {"models"}
    assert "anywidget" in imported("explorer")
    assert "torchvision.datasets" in imported("data")  # by import_module
    assert "matplotlib.pyplot" in imported("plots")


WATCHED = """
import json, os, random, socket, sys, warnings
import numpy, torch

def no_network(*_, **__):
    raise AssertionError("an import asked the network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = no_network
state = lambda: (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate())
before, threads, filters = state(), torch.get_num_threads(), list(warnings.filters)
for module in sys.argv[1:]:
    __import__(f"tvae_core.{module}")
print(json.dumps({
    "drew": state() != before,
    "threads": torch.get_num_threads() != threads,
    "grad": not torch.is_grad_enabled(),
    "silenced": [str(f) for f in warnings.filters if f not in filters and f[0] == "ignore"],
    "plotted": "matplotlib" in sys.modules,
    "loaded torchvision": "torchvision" in sys.modules,
    "made folders": os.path.exists(os.environ["TVAE_DATA"]),
}))
"""


def test_importing_draws_nothing_downloads_nothing_and_silences_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TVAE_DATA", str(tmp_path / "data"))
    modules = sorted(set(MODULES) - {"plots", "explorer"})
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *modules], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    happened = json.loads(done.stdout)
    assert not any(happened.values()), happened
