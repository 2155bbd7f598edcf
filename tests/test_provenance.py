"""The hash of the code behind a result: what changes it, and what does not."""

import ast
import hashlib
import shutil
from functools import partial
from pathlib import Path

import pytest

import tvae_core
from tvae_core import bounds, data, estimators, models, provenance, training
from tvae_core.provenance import code_hash
from tvae_core.recipes import ESTIMATORS

ROOTS = {
    "adadelta, elbo": (
        models.build,
        data.Batches,
        training.fit,
        training.adadelta,
        estimators.reparameterized(bounds.elbo),
    ),
    "adam, dreg": (models.build, data.Batches, training.fit, training.adam, estimators.dreg),
}


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    for path in Path(tvae_core.__file__).parent.glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(provenance.resources, "files", lambda _: tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def hashes() -> dict[str, str]:
    return {name: code_hash(*roots) for name, roots in ROOTS.items()}


WORDS = [
    ("bounds", '"""Lower bounds', '"""Other words. Lower bounds'),  # the module's docstring
    ("bounds", "Evidence lower bound", "The bound"),  # a function's
    ("bounds", "import math", "# Why.\n\nimport math  # how"),
    ("evaluation", "ROWS = 1_000", "ROWS = 2_000"),  # it trains nothing
    ("training", "Lower the learning rate", "Learn more slowly"),  # what an error says
    ("runtime", "seeded", "sown"),
]
CODE = [  # and which of the two it reaches; adadelta is the default of fit
    ("bounds", "log_w.mean(0)", "log_w.mean(1)", {"adadelta, elbo"}),
    ("bounds", "logsumexp(0)", "logsumexp(1)", {"adam, dreg"}),
    ("training", "** 0.9", "** 0.8", set(ROOTS)),
    ("training", "peak: float = 1e-3", "peak: float = 2e-3", {"adam, dreg"}),
    ("estimators", "weight.unsqueeze(-1) * gradient", "gradient", {"adam, dreg"}),
    ("models", "HIDDEN = (256, 256)", "HIDDEN = (256, 255)", set(ROOTS)),
    ("networks", "nn.ReLU()", "nn.Tanh()", set(ROOTS)),
    ("warps", "+ 1) / width - 1", "+ 0) / width - 1", set(ROOTS)),
    ("particles", "self.log_lik - self.beta", "self.log_lik + self.beta", set(ROOTS)),
    ("data", "pixels[index].float() / 255", "pixels[index].float() / 256", set(ROOTS)),
]


@pytest.mark.parametrize(("module", "old", "new"), WORDS)
def test_words_and_code_that_is_not_reached_leave_the_hash(source, module, old, new):
    before = hashes()
    edit(source / f"{module}.py", old, new)
    assert hashes() == before


@pytest.mark.parametrize(("module", "old", "new", "reached"), CODE)
def test_code_changes_the_hashes_of_the_runs_that_it_reaches(source, module, old, new, reached):
    before = hashes()
    edit(source / f"{module}.py", old, new)
    after = hashes()
    assert {name for name in ROOTS if after[name] != before[name]} == reached


def test_what_a_function_was_made_with_counts():
    made_with = (
        bounds.iwae,
        bounds.elbo,
        partial(bounds.miwae, m=2),
        partial(bounds.renyi, alpha=0),
    )
    assert len({code_hash(estimators.reparameterized(bound)) for bound in made_with}) == 4


@pytest.mark.parametrize(
    "line", ["log_w.unflatten(0, (-1, m))", "log_w.logsumexp(0)", "surrogate +"]
)
def test_both_sides_of_a_pair_count(source, line):
    before = code_hash(ESTIMATORS["piwae-4"])
    module = "estimators" if line == "surrogate +" else "bounds"
    edit(source / f"{module}.py", line, f"{line} + 0 *" if module == "estimators" else f"+{line}")
    assert code_hash(ESTIMATORS["piwae-4"]) != before


SAMPLE = r"""
def f(x: "Float[Tensor, 'B']", *a, k=1, **kw) -> None:
    y = f"{x['a']:3d} {', '.join(a)!r:>{k}}" "tail" f"{x=}"
    z = [i for i in a if i]; w = a[1:, ..., 0]; lambda q, /, r: q
    with open("a") as b, c: pass
    return {**kw, 1: 2, "": u""}
class A(B):
    x: int = 1.5e-3
    @property
    def g(self): return f"{self.x:{self.w}.{self.p}f}\n" if self else None
"""


def test_every_python_reads_the_same_code():
    """The digest is the one that Pythons 3.10 to 3.13 agree on."""
    text = provenance._canonical(ast.parse(SAMPLE))
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "7edecc06057b"


def test_a_function_of_no_definition_of_ours_is_reached_by_nothing():
    assert code_hash(len) == code_hash(print)
