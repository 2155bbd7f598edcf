"""What may import what, read from the source: downwards only, and from the core into no wing."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "tvae_core"
CORE = {
    **dict.fromkeys(["checks", "posteriors", "bounds", "networks", "plots"], ""),
    **dict.fromkeys(["runtime", "warps"], "checks"),
    "data": "checks runtime",
    "particles": "posteriors",
    "models": "checks networks posteriors particles warps",
    "estimators": "bounds particles",
    "training": "runtime estimators",
    # Not training, so that no knob of training reaches a reported number.
    "evaluation": "runtime data posteriors models",
    "ais": "checks runtime posteriors models",
    "diagnostics": "runtime data networks posteriors particles models",
    "scores": "poses data models",
    "moved": "data warps",
    "poses": "runtime data warps posteriors models evaluation",
    "gradients": "estimators models",
    # Doors: a name and two commands whose code is in a wing.
    **dict.fromkeys(["reproduce", "measure"], "experiments"),
    "__init__": "checks experiments",  # and by name the rooms of the core, to hold them
}
WINGS = {"experiments": "experiments", "explorer": "explorer experiments"}
ONLY_IN = {
    "matplotlib": {"plots", "moved", "explorer"},
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
