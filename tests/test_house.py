"""The size of the house: a small core, short files, and a training step that stands in its loop."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (".py", ".mjs", ".js", ".css")


def tracked() -> list[Path]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    if not found:
        pytest.skip("needs a git checkout")
    return [path for line in found.splitlines() if (path := ROOT / line).exists()]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def definition(module: str, name: str) -> ast.AST:
    tree = ast.parse((ROOT / "tvae_core" / f"{module}.py").read_text(encoding="utf-8"))
    (node,) = (node for node in tree.body if getattr(node, "name", "") == name)
    return node


def test_no_source_file_is_long():
    ours = [p for p in tracked() if p.suffix in SOURCES and "vendor" not in p.parts]
    long = {str(path): lines(path) for path in ours if lines(path) > 600}
    assert len(ours) > 50
    assert not long


def test_text_is_read_and_written_in_utf8():
    """Python on Windows would take another encoding."""
    calls = [
        (f"{path}:{node.lineno}", ast.unparse(node))
        for path in tracked()
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
    ]
    text = [
        c for c in calls if re.match(r"(?!Image|tarfile)(.*\.)?(read_text|write_text|open)\(", c[1])
    ]
    assert len(text) > 50
    assert not [place for place, call in text if "encoding=" not in call]


def test_the_core_is_small():
    core = list((ROOT / "tvae_core").glob("*.py"))
    assert len(core) <= 23
    assert sum(map(lines, core)) <= 4_088
    vae = definition("models", "VAE")
    assert vae.end_lineno - vae.lineno + 1 <= 60
    assert "isinstance" not in ast.unparse(vae)


def test_the_records_are_compact():
    size = sum(path.stat().st_size for path in tracked() if ROOT / "results" in path.parents)
    assert 1_000_000 < size < 8_500_000


def test_the_step_stands_in_the_loop():
    """Loss, backward pass and update, in this order, in the body of the loop over batches."""
    (loop,) = (
        node
        for node in ast.walk(definition("training", "fit"))
        if isinstance(node, ast.For) and ast.unparse(node.iter) == "enumerate(batches)"
    )
    calls = [node for node in ast.walk(loop) if isinstance(node, ast.Call)]
    names = [ast.unparse(call.func) for call in sorted(calls, key=lambda call: call.lineno)]
    step = ["compute_loss", "opt.zero_grad", "loss.backward", "opt.step"]
    assert [name for name in names if name in step] == step
