"""Write the book's tables from the run records: results/*.csv, and the headline table of README.md.

python tools/make_tables.py            # write
python tools/make_tables.py --check    # change nothing; exit with 1 if something would change
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

from tvae_core.recipes import RUNS
from tvae_core.records import RunRecord
from tvae_core.results import record_of, recorded
from tvae_core.study import PRINTED

ROOT = Path(__file__).resolve().parents[1]
RECORDED = [name for name in RUNS if name in recorded()]
NAMES = {"plain": "plain VAE", "affine": "affine", "tps": "thin-plate spline"}
Table = list[list[str]]


def plus_minus(value: list[float]) -> str:
    mean, standard_error = value
    return f"{mean:.2f} ± {standard_error:.2f}"


def gray_table() -> Table:
    """The study's first two tables: trained and scored on gray pixels, one draw."""
    table = [["decoder", "recon, study", "recon, ours", "NLL, study", "NLL, ours"]]
    for model, printed in PRINTED.items():
        record = record_of(f"{model}-vae")
        row = [f"{printed.recon:.2f}", plus_minus(record.recon)]
        row += [f"{printed.nll:.2f}", plus_minus(record.nll)]
        table.append([NAMES[model], *row])
    return table


def five_draws_table() -> Table:
    """The study's third table, its two columns under the header that fits them."""
    table = [["decoder", "IWAE, study", "IWAE, ours", "multi-sample, study", "multi-sample, ours"]]
    for model, printed in PRINTED.items():
        row = [f"{printed.headed_multi5:.2f}", plus_minus(record_of(f"{model}-iwae5").nll)]
        row += [f"{printed.headed_iwae5:.2f}", plus_minus(record_of(f"{model}-multi5").nll)]
        table.append([NAMES[model], *row])
    return table


def draws_table() -> Table:
    """The plain model on binary pixels with 1, 5 and 50 draws; with 1, the two are the same."""
    table = [["draws k", "IWAE", "multi-sample VAE", "epochs"]]
    one = record_of("plain-multi1")
    table.append(["1", plus_minus(one.nll), plus_minus(one.nll), str(one.config["epochs"])])
    for k in (5, 50):
        iwae, multi = record_of(f"plain-iwae{k}"), record_of(f"plain-multi{k}")
        row = [plus_minus(iwae.nll), plus_minus(multi.nll), str(iwae.config["epochs"])]
        table.append([str(k), *row])
    return table


def runs_table() -> Table:
    """Every run: what it took, and on what."""
    head = ["run", "recon", "KL(z)", "KL(u)", "NLL", "median ESS", "epochs", "minutes", "machine"]
    table = [head]
    for name in RECORDED:
        record = record_of(name)
        row = [plus_minus(record.recon), f"{record.kl_z[0]:.2f}", f"{record.kl_u[0]:.2f}"]
        row += [plus_minus(record.nll), f"{record.ess_median:.0f}", str(record.config["epochs"])]
        row += [f"{record.seconds['train'] / 60:.0f}", record.device]
        table.append([f"`{name}`", *row])
    return table


def protocol_table() -> Table:
    """What all records share; a value that differs between them is listed in full."""

    def values(read: Callable[[RunRecord], object]) -> str:
        return ", ".join(sorted({str(read(record_of(name))) for name in RECORDED}))

    def data(record: RunRecord, split: str) -> str:
        return f"{record.data[split]['n']:,}"

    return [
        ["what", "value"],
        ["training images", values(lambda r: data(r, "train"))],
        ["test images", values(lambda r: data(r, "test"))],
        ["importance samples for each image", values(lambda r: f"{r.nll_ks[-1]:,}")],
        ["seed", values(lambda r: r.seed)],
        ["PyTorch", values(lambda r: r.versions["torch"])],
        ["Python", values(lambda r: r.versions["python"])],
    ]


TABLES = {
    "gray": gray_table,
    "five_draws": five_draws_table,
    "draws": draws_table,
    "runs": runs_table,
    "protocol": protocol_table,
}


def as_csv(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join([head, "| --- " * len(table[0]) + "|", *body])


def outputs() -> dict[Path, str]:
    """The text of each file that the records determine."""
    texts = {ROOT / "results" / f"{name}.csv": as_csv(make()) for name, make in TABLES.items()}
    readme = ROOT / "README.md"
    for name in ("gray", "five_draws"):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before = texts.get(readme) or readme.read_text()
        if begin not in before or end not in before:
            sys.exit(f"README.md: the markers {begin} and {end} are missing")
        top, bottom = before.split(begin)[0], before.split(end)[1]
        texts[readme] = f"{top}{begin}\n{as_markdown(TABLES[name]())}\n{end}{bottom}"
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    stale = [p for p, text in outputs().items() if not p.exists() or p.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'differs from the records' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(outputs()[path])
    if check and stale:
        sys.exit("run: make tables")


if __name__ == "__main__":
    main()
