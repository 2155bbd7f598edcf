"""What may import what, read from the source: downwards only, and from the core into no wing."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tvae_core

ROOT = Path(__file__).parents[1] / "tvae_core"
CORE = {
    **dict.fromkeys(["checks", "posteriors", "bounds", "networks"], ""),
    **dict.fromkeys(["runtime", "warps", "plots"], "checks"),
    "data": "checks runtime",
    "particles": "posteriors",
    "models": "checks networks posteriors particles warps",
    "estimators": "bounds posteriors particles",
    "training": "runtime estimators",
    # Not training, so that no knob of training reaches a reported number.
    "evaluation": "runtime data posteriors models",
    "ais": "checks runtime posteriors models",
    "diagnostics": "runtime data networks posteriors particles models",
    "scores": "poses data models",
    "moved": "data poses warps",
    "poses": "runtime data warps posteriors models evaluation",
    "gradients": "estimators models",
    # Doors: a name and three commands whose code is in a wing.
    **dict.fromkeys(["reproduce", "measure"], "experiments"),
    "align": "own",
    "__init__": "checks experiments",  # and by name the rooms of the core, to hold them
}
DOORS = ("align", "reproduce", "measure")
WINGS = {
    "experiments": "experiments",
    "explorer": "explorer experiments",
    "own": "own experiments",
    "questions": "",
}
ONLY_IN = {
    "matplotlib": {"plots", "moved", "explorer", "own"},
    "PIL": {"own"},
    "anywidget": {"explorer"},
    "torchvision": {"data"},
}


def test_imports_run_downwards(subtests):
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("")
        with subtests.test(str(module)):
            check_imports(path, module.parts[0])


def check_imports(path: Path, room: str) -> None:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    ours = {name.split(".")[1] for name in names if name.startswith("tvae_core.")}
    assert ours <= set(CORE[room].split() if room in CORE else [*CORE, *WINGS[room].split()])
    others = {name.split(".")[0] for name in names}
    assert all(room in ONLY_IN[name] for name in others & set(ONLY_IN))


def test_the_core_runs_without_its_wings():
    core = ", ".join(f"tvae_core.{name}" for name in CORE if name not in ("__init__", *DOORS))
    code = f"import sys, {core}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "tvae_core.bounds" in loaded
    assert not [name for name in loaded for wing in WINGS if name.startswith(f"tvae_core.{wing}")]


def test_the_package_has_its_version_and_the_name_of_its_door_and_no_others():
    assert f'version = "{tvae_core.__version__}"\n' in (ROOT.parent / "pyproject.toml").read_text(
        encoding="utf-8"
    )
    assert tvae_core.load_pretrained("plain-vae").record.name == "plain-vae"
    with pytest.raises(AttributeError, match="no attribute 'load_trained'"):
        _ = tvae_core.load_trained


@pytest.mark.parametrize("door", DOORS)
def test_a_door_leads_to_its_command_when_it_is_run_but_not_when_it_is_imported(
    door, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", [door, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module(f"tvae_core.{door}", run_name="__main__")
    assert capsys.readouterr().out.startswith(f"usage: python -m tvae_core.{door} ")
    runpy.run_module(f"tvae_core.{door}")
    assert not capsys.readouterr().out
