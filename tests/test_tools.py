"""Laws of the scripts in tools/ that collect, generate, execute and time."""

import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import bench
import collect
import make_garments
import make_mini
import nbformat
import numpy as np
import pytest
import run_notebooks
import safetensors.torch
import setup_cells
import torch
from tables import write
from tables.base import Table
from test_archive import record

from tvae_core import data, training
from tvae_core.experiments import archive
from tvae_core.experiments.records import load_record
from tvae_core.experiments.runner import runs_folder

# Collecting runs.


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """Folders that stand for the package's and for results/, and an empty one for runs."""
    monkeypatch.setenv("TVAE_RUNS", str(tmp_path / "runs"))
    for name in ("FOLDER", "ARCHIVE"):
        monkeypatch.setattr(collect, name, tmp_path / name)
        (tmp_path / name).mkdir()
    return SimpleNamespace(package=tmp_path / "FOLDER", results=tmp_path / "ARCHIVE")


def finished(one) -> torch.Tensor:
    """Leave a run behind as `Job` does; returns its weights."""
    folder = runs_folder() / f"{one.name}-{one.profile}-seed{one.seed}"
    weights = torch.tensor([one.seed + 1 / 3])
    one.save(folder / f"record-{one.data['test']['n']}.json")
    safetensors.torch.save_file({"w": weights}, folder / "weights.safetensors")
    return weights


def test_the_record_of_seed_0_on_the_fewest_images_ships_and_all_others_are_archived(repository):
    old, untouched = record(1, n=2, ess_median=7.0), record(5, name="tps-vae")
    archive.write([old, untouched], repository.results)
    few, many, new = record(0), record(0, n=5), record(1, n=2, ess_median=8.0)
    elsewhere = record(0, name="tps-vae", profile="validation")
    binarized = record(0, name="plain-multi5-modern")  # no weights of this run ship
    ignored = [record(0, n=1, name="no-run"), record(0, n=2, profile="smoke")]
    fewest = record(0, n=1)  # trained on other images, because the download failed
    for other in (fewest, ignored[1]):
        other.data["train"] = {**other.data["train"], "name": "mini"}
    ignored.append(fewest)
    weights, *_ = map(finished, (few, many, new, elsewhere, binarized, *ignored))
    collect.main()
    assert load_record(repository.package / "plain-vae.json") == few
    assert load_record(repository.package / "plain-multi5-modern.json") == binarized
    (shipped,) = repository.package.glob("*.safetensors")
    assert shipped.stem == "plain-vae"
    assert torch.equal(safetensors.torch.load_file(shipped)["w"], weights.half())
    found = archive.read(repository.results)
    assert found == sorted([many, new, elsewhere, untouched], key=archive.key_of)
    sums = archive.read_sums(repository.package)
    assert sorted(sums) == sorted(p.name for p in repository.package.glob("*-*"))


# Generated files.


def call(monkeypatch, main, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    main()


def test_tables_fill_their_blocks_on_each_page_and_check_compares_them(monkeypatch, tmp_path):
    monkeypatch.setattr(write, "ROOT", tmp_path)
    monkeypatch.setattr(write, "RESULTS", tmp_path / "results")
    for name in ("SEEDS", "VALIDATION"):
        monkeypatch.setattr(write, name, tmp_path / f"{name}.json")
    monkeypatch.setattr(write, "seeds_summary", lambda: "seeds\n")
    monkeypatch.setattr(write, "validation_summary", lambda: "held out\n")
    table = Table("A caption.", [["run", "nats"], ["a", "1.5"]], [])
    monkeypatch.setattr(write, "tables", lambda: {"ours": table})
    (tmp_path / "book").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "book" / "page.md"]
    for page in pages:
        page.write_text(
            "<!-- ours -->\nold\n<!-- /ours -->\n<!-- not -->\nold\n<!-- /not -->\n",
            encoding="utf-8",
        )
    before = [page.read_text(encoding="utf-8") for page in pages]
    with pytest.raises(SystemExit, match="make tables"):
        call(monkeypatch, write.main, "--check")
    assert [page.read_text(encoding="utf-8") for page in pages] == before
    assert not (tmp_path / "results").exists()
    call(monkeypatch, write.main)
    call(monkeypatch, write.main, "--check")
    readme, book = (page.read_text(encoding="utf-8") for page in pages)
    for text in (readme, book):
        assert text.count("old") == 1  # the other block is no table's
        assert "A caption." in text
    assert "| a | 1.5 |" in readme
    assert ":file: ../results/ours.csv" in book
    assert (tmp_path / "results" / "ours.csv").read_text(encoding="utf-8") == "run,nats\na,1.5\n"
    assert (tmp_path / "SEEDS.json").read_text(encoding="utf-8") == "seeds\n"


def test_addresses_are_written_once_into_notebooks_and_readme(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_cells, "ROOT", tmp_path)
    config = "repository:\n  url: https://github.com/{}/book\n  branch: v0.1.0\n"
    (tmp_path / "_config.yml").write_text(config.format("someone"), encoding="utf-8")
    readme, path = tmp_path / "README.md", tmp_path / "notebooks" / "09_x.ipynb"
    readme.write_text("above\n<!-- badges -->\n<!-- /badges -->\nbelow\n", encoding="utf-8")
    path.parent.mkdir()
    cells = [
        nbformat.v4.new_markdown_cell(
            "# A title\n**Time:** 5 minutes of reading. Less to run.\n\nText."
        ),
        nbformat.v4.new_code_cell("1 + 1"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="make setup-cells"):
        call(monkeypatch, setup_cells.main, "--check")
    assert path.read_bytes() == before
    for owner in ("someone", "another"):  # the second address replaces the first
        (tmp_path / "_config.yml").write_text(config.format(owner), encoding="utf-8")
        call(monkeypatch, setup_cells.main)
        call(monkeypatch, setup_cells.main, "--check")
        setup, title, rest = nbformat.read(path, as_version=4).cells
        assert f"github.com/{owner}/book" in setup.source
        first, link, *_, last = title.source.split("\n")
        assert (first, last, rest.source) == ("# A title", "Text.", "1 + 1")
        assert link.endswith(f"/{owner}/book/blob/v0.1.0/notebooks/09_x.ipynb)")
        assert readme.read_text(encoding="utf-8").count(f"{owner}.github.io/book") == 1
        assert readme.read_text(encoding="utf-8").endswith("below\n")


# Executing notebooks.


def test_text_that_a_cell_printed_in_a_row_becomes_one_output():
    def output(name: str, text: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_output("stream", name=name, text=text)

    figure = nbformat.v4.new_output("display_data", data={"text/plain": "figure"})
    parts = [output("stdout", "a"), output("stdout", "b"), output("stderr", "c"), figure]
    found = run_notebooks.merged([*parts, output("stderr", "d")])
    assert [o.get("text") for o in found] == ["ab", "c", None, "d"]


# Timing, and the bundled digits.


def test_the_time_of_an_epoch_is_that_of_the_second_scaled_to_all_images(monkeypatch):
    rows = [{"seconds": 90.0}, {"seconds": 3.0}]
    monkeypatch.setattr(training, "fit", lambda *_, **options: rows[: options["epochs"]])
    images = len(bench.job_of("plain-vae").images)
    assert bench.our_epoch("plain-vae") == pytest.approx(3 * 60_000 / images)
    assert bench.our_epoch("plain-vae", stack=4) == pytest.approx(3 * 60_000 / images / 4)


def test_ways_take_turns_and_their_medians_are_kept(monkeypatch):
    monkeypatch.setattr(bench, "own_process", lambda: ThreadPoolExecutor(1))
    times = {"a": [1.0, 2.0, 9.0], "b": [5.0, 4.0, 6.0]}
    order = []

    def way(name: str) -> float:
        order.append(name)
        return times[name][order.count(name) - 1]

    found = bench.medians({name: (lambda name=name: way(name)) for name in times}, 3)
    assert found == {name: statistics.median(values) for name, values in times.items()}
    assert order == ["a", "b"] * 3


def test_the_last_tenth_of_the_bundled_digits_has_each_digit_in_proportion():
    labels = np.repeat(np.arange(10, dtype=np.uint8), [110, 90] + 8 * [100])
    order = make_mini.shuffled(labels)
    assert sorted(order) == list(range(1000))
    assert np.array_equal(order, make_mini.shuffled(labels))
    held_out = np.bincount(labels[order[900:]])
    assert held_out.tolist() == [11, 9] + 8 * [10]
    assert len({*labels[order[:20]]}) > 5  # not sorted by digit


def test_the_first_garments_of_each_class_are_bundled_in_their_order():
    labels = torch.arange(10).repeat(60)
    images = data.from_tensor(torch.rand(600, 1, 2, 2), labels)
    few = make_garments.chosen(images)
    assert torch.equal(few.pixels, images.pixels[:500])
    assert few.labels.bincount().tolist() == [50] * 10
