"""Writes everything that the run records determine.

That is results/*.csv, the blocks of README.md and book/*.md between <!-- name --> and
<!-- /name -->, and the package's summaries of all seeds.

python -m tools.tables            # write them, from the root of the repository
python -m tools.tables --check    # write nothing; exit with 1 if anything is out of date
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from tools.derived import write_or_check
from tvae_core.experiments.configs import HELD_OUT, RECIPES, RUNS, RunName
from tvae_core.experiments.results import SEEDS, VALIDATION

from . import own, planted, speed, training, validation, where
from .base import RESULTS, ROOT, Rows, Table, paired_gap, seeds_of

TABLES: dict[str, Callable[[], Table]] = {
    "models": training.models_table,
    "gray": training.gray_table,
    "five_draws": training.five_draws_table,
    "gaps": training.study_gaps_table,
    "settings": training.settings_table,
    "recipes": training.recipes_table,
    "better_gaps": training.better_gaps_table,
    "annealed": training.annealed_table,
    "looks": training.looks_table,
    "ablation": validation.ablation_table,
    "draws": training.draws_table,
    "whole": training.whole_table,
    "runs": training.runs_table,
    "protocol": training.protocol_table,
    **speed.TABLES,
    **planted.TABLES,
    **where.TABLES,
    **own.TABLES,
}


def tables() -> dict[str, Table]:
    """The tables that have records to show."""
    made = {name: make() for name, make in TABLES.items()}
    return {name: table for name, table in made.items() if table.any_record}


def as_csv(rows: Rows) -> str:
    """A table as its file in results/."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A table as it stands in the README, which GitHub renders."""
    head, *body = (f"| {' | '.join(row)} |" for row in table.rows)
    return "\n".join([head, "| --- " * len(table.rows[0]) + "|", *body, "", table.full_caption])


def as_directive(name: str, table: Table) -> str:
    """A table as a page of the book includes it."""
    lines = [
        f"```{{csv-table}} {table.full_caption}",
        f":name: tab-{name.replace('_', '-')}",
        f":class: numbers{' wide' if len(table.rows[0]) > 5 else ''}",
        f":file: ../results/{name}.csv",
        ":header-rows: 1",
        "```",
    ]
    return "\n".join(lines)


def seeds_summary() -> str:
    """What the package knows about all seeds of a run; it ships the record of one."""
    found = {name: seeds for name in RUNS if (seeds := seeds_of(name))}
    summary = {
        name: {
            "recon": seeds.of("recon"),
            "nll": seeds.of("nll"),
            "active": seeds.active(),
            "informative": seeds.informative(),
            "seconds": seeds.seconds(),
        }
        for name, seeds in found.items()
    }
    return json.dumps(summary, indent=1) + "\n"


def validation_summary() -> str:
    """What the package knows about the runs on held-out training images."""
    summary = {}
    for recipe in HELD_OUT:
        for name, config in RECIPES[recipe].items():
            seeds = seeds_of(name, "validation")
            if seeds is None:
                continue
            base = str(RunName(config.model, validation.BASES[recipe]))
            record = seeds.records[0]
            summary[name] = {
                "nll": seeds.of("nll"),
                "base": base,
                "gap": paired_gap(name, base, profile="validation") if name != base else None,
                "epochs": record.config["epochs"],
                "samples": record.nll_ks[-1],
                "images": record.data["test"]["n"],
            }
    return json.dumps(summary, indent=1) + "\n"


BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def outputs() -> dict[Path, str]:
    """The right text of each file that the records determine."""
    made = tables()
    texts = {RESULTS / f"{name}.csv": as_csv(table.rows) for name, table in made.items()}
    texts |= {SEEDS: seeds_summary(), VALIDATION: validation_summary()}
    for page in (ROOT / "README.md", *(ROOT / "book").glob("*.md")):

        def block(match: re.Match[str], readme: bool = page.name == "README.md") -> str:
            name = match[2]
            if name not in made:
                return match[0]
            text = as_markdown(made[name]) if readme else as_directive(name, made[name])
            return f"{match[1]}{text}\n{match[3]}"

        texts[page] = BLOCK.sub(block, page.read_text(encoding="utf-8"))
    return texts


def main() -> None:
    write_or_check(__doc__, lambda: outputs().items(), ROOT, "tables", "differs from the records")
