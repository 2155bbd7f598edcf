"""Plant one mistake at a time in a copy of tvae_core, and record which test catches it.

Usage: python tools/mutants.py [--only ais]

Each mistake replaces a piece of a module; the tests of that module then run until the first one
fails. Writes results/mutants.csv, and exits with 1 if a mistake went unnoticed.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "results" / "mutants.csv"
COPIED = ("tvae_core", "tests", "tools", "conftest.py", "pyproject.toml")
HEAD = ("module", "the mistake", "caught by")
NOTHING = "nothing"
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/([^\s\[]+)", re.MULTILINE)  # without parameters


class Mutant(NamedTuple):
    """A piece of a module's code, which must occur exactly once, and the wrong code for it."""

    module: str
    what: str
    right: str
    wrong: str


# The test files to run for each module's mutants, in this order.
TESTS = {
    "bounds": ("bounds", "estimators"),
    "particles": ("estimators", "models"),
    "estimators": ("estimators",),
    "models": ("gradients", "models"),
    "gradients": ("gradients",),
    "evaluation": ("evaluation",),
    "diagnostics": ("diagnostics",),
    "ais": ("ais",),
}
MUTANTS = [
    Mutant("bounds", "ELBO: mean over images", "return log_w.mean(0)", "return log_w.mean(-1)"),
    Mutant("bounds", "ELBO: sum instead of mean", "return log_w.mean(0)", "return log_w.sum(0)"),
    Mutant(
        "bounds",
        "IWAE: no log-sum-exp",
        "log_w.logsumexp(0) - math.log(len(log_w))",
        "log_w.exp().mean(0).log()",
    ),
    Mutant(
        "bounds", "IWAE: no 1/K", "log_w.logsumexp(0) - math.log(len(log_w))", "log_w.logsumexp(0)"
    ),
    Mutant("bounds", "IWAE: sum over images", "log_w.logsumexp(0)", "log_w.logsumexp(-1)"),
    Mutant("bounds", "MIWAE: m and k swapped", "unflatten(0, (-1, m))", "unflatten(0, (m, -1))"),
    Mutant("bounds", "MIWAE: bounds swapped", "elbo(iwae(log_w", "iwae(elbo(log_w"),
    Mutant(
        "bounds",
        "CIWAE: beta and 1 - beta swapped",
        "beta * elbo(log_w) + (1 - beta) * iwae(log_w)",
        "beta * iwae(log_w) + (1 - beta) * elbo(log_w)",
    ),
    Mutant("bounds", "CIWAE: wrong sign", "(1 - beta) * iwae(log_w)", "(1 + beta) * iwae(log_w)"),
    Mutant(
        "particles",
        "log w: wrong sign of the KL term",
        "self.log_lik - (self.log_q - self.log_prior)",
        "self.log_lik + (self.log_q - self.log_prior)",
    ),
    Mutant("particles", "log w: no prior", "(self.log_q - self.log_prior)", "self.log_q"),
    Mutant(
        "particles", "path derivative: mean not held fixed", "self.q.loc.detach()", "self.q.loc"
    ),
    Mutant(
        "particles",
        "path derivative: deviation not held fixed",
        "self.q.scale.detach()",
        "self.q.scale",
    ),
    Mutant(
        "estimators",
        "log-weights: no KL weight",
        "kl_weight * (particles.log_q - particles.log_prior)",
        "(particles.log_q - particles.log_prior)",
    ),
    Mutant(
        "estimators",
        "path log-weights: no KL weight",
        "kl_weight * (particles.log_q_path - particles.log_prior)",
        "(particles.log_q_path - particles.log_prior)",
    ),
    Mutant(
        "estimators",
        "closed-form KL: wrong sign",
        "- kl_weight * particles.kl",
        "+ kl_weight * particles.kl",
    ),
    Mutant(
        "estimators",
        "closed-form KL: no KL weight",
        "- kl_weight * particles.kl",
        "- particles.kl",
    ),
    Mutant(
        "estimators",
        "STL: score term left in",
        "return bounds.elbo(path_log_weights(particles, kl_weight))",
        "return bounds.elbo(log_weights(particles, kl_weight))",
    ),
    Mutant(
        "estimators",
        "DReG: normalised weights not held fixed",
        "log_w.softmax(0).detach()",
        "log_w.softmax(0)",
    ),
    Mutant(
        "estimators",
        "DReG: weights normalised over images",
        "log_w.softmax(0)",
        "log_w.softmax(-1)",
    ),
    Mutant(
        "estimators",
        "DReG: normalised weight not squared",
        "factor = 1 - kl_weight * (1 - normalised)",
        "factor = torch.ones_like(normalised)",
    ),
    Mutant(
        "estimators",
        "DReG: one minus the normalised weight",
        "factor = 1 - kl_weight * (1 - normalised)",
        "factor = 1 - kl_weight * normalised",
    ),
    Mutant(
        "estimators",
        "DReG: no KL weight on the score term",
        "factor = 1 - kl_weight * (1 - normalised)",
        "factor = normalised",
    ),
    Mutant(
        "estimators",
        "DReG: wrong value",
        "bounds.iwae(log_w.detach()) + surrogate - surrogate.detach()",
        "bounds.iwae(log_w.detach()) + surrogate",
    ),
    Mutant(
        "estimators",
        "DReG: the value of another bound",
        "bounds.iwae(log_w.detach())",
        "bounds.elbo(log_w.detach())",
    ),
    Mutant(
        "estimators",
        "path derivative: score term left in",
        "return bound(path_log_weights(particles, kl_weight))",
        "return bound(log_weights(particles, kl_weight))",
    ),
    Mutant(
        "estimators",
        "doubly reparameterized: ratio inverted",
        "(curvature / slope)",
        "(slope / curvature)",
    ),
    Mutant(
        "estimators",
        "doubly reparameterized: wrong sign",
        "1 - kl_weight * (curvature",
        "1 + kl_weight * (curvature",
    ),
    Mutant(
        "estimators",
        "doubly reparameterized: no KL weight on the score term",
        "1 - kl_weight * (curvature",
        "1 - (curvature",
    ),
    Mutant(
        "estimators",
        "doubly reparameterized: score term left in",
        "log_w = path_log_weights(particles, kl_weight)\n        slope",
        "log_w = log_weights(particles, kl_weight)\n        slope",
    ),
    Mutant(
        "estimators",
        "curvature: all particles at once",
        "changes.diagonal().movedim(-1, 0)",
        "changes.sum(0)",
    ),
    Mutant(
        "estimators",
        "PIWAE: the decoder's bound reaches the encoder",
        "particles.latents.register_hook(torch.zeros_like)",
        "pass",
    ),
    Mutant(
        "estimators",
        "PIWAE: log q not held fixed",
        "log_q=particles.log_q.detach()",
        "log_q=particles.log_q",
    ),
    Mutant(
        "estimators",
        "PIWAE: bounds swapped",
        "encoder(particles, kl_weight).sum(), ends",
        "decoder(particles, kl_weight).sum(), ends",
    ),
    Mutant(
        "estimators",
        "PIWAE: wrong sign",
        "value + surrogate - surrogate",
        "value - surrogate + surrogate",
    ),
    Mutant(
        "models",
        "heads: the rows of u for those of z",
        "(self.log_sigma, slice(dim_z))",
        "(self.log_sigma, slice(dim_z, None))",
    ),
    Mutant(
        "gradients",
        "noise not removed from the signal",
        "(mean.square().sum() - noise / repeats)",
        "mean.square().sum()",
    ),
    Mutant(
        "gradients",
        "variance: divided by R, not R - 1",
        "spread / (repeats - 1)",
        "spread / repeats",
    ),
    Mutant("gradients", "Welford's update: old mean used twice", "off * (new - mean)", "off * off"),
    Mutant(
        "gradients",
        "blocks: all rows of a layer",
        "{id(p): r for layer, r in head",
        "{id(p): slice(None) for layer, r in head",
    ),
    Mutant("evaluation", "NLL: no 1/K", "math.log(drawn) - log_sums[0]", "-log_sums[0]"),
    Mutant(
        "evaluation",
        "NLL: only the last chunk",
        "torch.logaddexp(log_sums, (powers * log_w).logsumexp(1))",
        "(powers * log_w).logsumexp(1)",
    ),
    Mutant("evaluation", "NLL: too many draws counted", "drawn += k", "drawn += per_chunk"),
    Mutant(
        "evaluation",
        "ESS: weights not squared",
        "torch.tensor([1.0, 2.0]",
        "torch.tensor([1.0, 1.0]",
    ),
    Mutant(
        "evaluation",
        "recon: only the first draw",
        "particles.log_lik.mean(0)",
        "particles.log_lik[0]",
    ),
    Mutant("evaluation", "KL: z and u swapped", "kl_z, kl_u = model", "kl_u, kl_z = model"),
    Mutant("evaluation", "units: deviation instead of variance", "means.var(0)", "means.std(0)"),
    Mutant(
        "evaluation",
        "standard error: not divided by the root of N",
        "values.std() / math.sqrt(len(values))",
        "values.std()",
    ),
    Mutant("diagnostics", "NLL(k): no 1/k", "math.log(k) - total,", "-total,"),
    Mutant(
        "diagnostics", "jackknife: k instead of k - 1", "(k - 1) * (math.log(", "k * (math.log("
    ),
    Mutant(
        "diagnostics", "jackknife: wrong sign", "/ k) - change.mean(1)", "/ k) + change.mean(1)"
    ),
    Mutant("diagnostics", "delta bias: no 1/k", "(inverse_ess - 1 / k) / 2", "inverse_ess / 2"),
    Mutant("diagnostics", "blocks: axes swapped", "unflatten(0, (-1, k))", "unflatten(0, (k, -1))"),
    Mutant("diagnostics", "dominated: condition inverted", "(largest > 0.5)", "(largest <= 0.5)"),
    Mutant(
        "ais",
        "weight: ends swapped",
        "log_w = log_w + rise * (point.joint - point.start)\n        point",
        "log_w = log_w + rise * (point.start - point.joint)\n        point",
    ),
    Mutant("ais", "weight: after the move, not before", "if not reverse:", "if reverse:"),
    Mutant(
        "ais", "reverse: path walked forwards", "reversed(times) if reverse else times", "times"
    ),
    Mutant("ais", "summary: no 1/C", "sign * (total - math.log(chains))", "sign * total"),
    Mutant("ais", "summary: reverse weights not inverted", "sign * log_w\n", "log_w\n"),
    Mutant("ais", "joint: no prior", "prior.log_prob(latents).sum(-1) + model", "model"),
    Mutant(
        "ais",
        "log f: ends swapped",
        "(1 - beta) * self.start + beta * self.joint",
        "beta * self.start + (1 - beta) * self.joint",
    ),
    Mutant(
        "ais",
        "slope: ends swapped",
        "(1 - beta) * self.d_start + beta * self.d_joint",
        "beta * self.d_start + (1 - beta) * self.d_joint",
    ),
    Mutant(
        "ais",
        "HMC: every proposal accepted",
        "torch.rand_like(rate) < rate",
        "torch.rand_like(rate) < 1",
    ),
    Mutant(
        "ais",
        "HMC: wrong sign of the kinetic energy",
        "- momentum.square().sum(-1) / 2",
        "+ momentum.square().sum(-1) / 2",
    ),
    Mutant("ais", "HMC: every proposal rejected", "proposal.where(torch", "point.where(torch"),
    Mutant(
        "ais",
        "leapfrog: a whole step first",
        "momentum + step / 2 * width",
        "momentum + step * width",
    ),
    Mutant("ais", "leapfrog: a whole step last", "(step if left else step / 2)", "step"),
    Mutant(
        "ais",
        "leapfrog: momentum not in units of the width",
        "step * width * momentum",
        "step * momentum",
    ),
    Mutant(
        "ais",
        "schedule: not from 0 to 1",
        "(rising - rising[0]) / (rising[-1] - rising[0])",
        "rising",
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", choices=TESTS, help="run the mutants of one module, and replace only its rows"
    )
    only = parser.parse_args().only
    caught = {row[:2]: row[2] for row in _table()} if only else {}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in COPIED:
            copy_of = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy_of(ROOT / name, copy / name)
        for module in TESTS:
            if only in (None, module) and (test := first_failure(copy, module)):
                sys.exit(f"{test} fails without any mutant")
        for mutant in MUTANTS:
            if only in (None, mutant.module):
                key = mutant.module, mutant.what
                caught[key] = caught_by(copy, mutant) or NOTHING
                print(*key, caught[key], sep=" | ", flush=True)
    rows = [(m.module, m.what, caught[m.module, m.what]) for m in MUTANTS]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
    if missed := [row for row in rows if row[2] == NOTHING]:
        sys.exit(f"{len(missed)} of {len(rows)} mistakes went unnoticed")


def _table() -> list[tuple[str, ...]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def caught_by(copy: Path, mutant: Mutant) -> str | None:
    """The first test that fails with the mutant in place. The copy is restored afterwards."""
    path = copy / "tvae_core" / f"{mutant.module}.py"
    right = path.read_text(encoding="utf-8")
    if right.count(mutant.right) != 1:
        sys.exit(f"{mutant.what}: {mutant.right!r} does not occur exactly once in {mutant.module}")
    path.write_text(right.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        return first_failure(copy, mutant.module)
    finally:
        path.write_text(right, encoding="utf-8")


def first_failure(copy: Path, module: str) -> str | None:
    tests = [f"tests/test_{name}.py" for name in TESTS[module]]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-x", "-q", "-rfE", *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    if run.returncode == 0:
        return None
    found = FAILED.search(run.stdout)
    if not found:
        sys.exit(f"no test failed, but pytest ended with {run.returncode}:\n{run.stdout[-2000:]}")
    return f"`{found[1]}`"


if __name__ == "__main__":
    main()
