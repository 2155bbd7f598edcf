"""The command that aligns a folder: its files, its report, resuming, and what it refuses."""

import csv
import html.parser
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tvae_core import data, moved, poses
from tvae_core.moved import Moves
from tvae_core.own import aligning, command, report, training
from tvae_core.runtime import seeded

SIZE = (10, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bars in two classes; one name is there twice, and one file is an array."""
    root = tmp_path_factory.mktemp("pictures")
    bars = torch.zeros(26, 1, *SIZE)
    bars[:, :, 2:8, 5:7] = 1
    pixels = moved.moved(data.from_tensor(bars), Moves(degrees=40, shift=1)).pixels[:, 0]
    names = ["a/<1>.png", "a/<1>.bmp", *(f"b/{i} ü.png" for i in range(22))]
    for name, x in zip(names, pixels, strict=False):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(x.numpy()).save(root / name)
    np.save(root / "b" / "more.npy", pixels[24:].numpy())
    (root / "b" / "notes.txt").write_text("bars", encoding="utf-8")
    return root


SMALL = ("--epochs", "3", "--latents", "2", "--hidden", "8")


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    command.main([str(folder), "--out", str(out), *SMALL])
    return out


def rows(out) -> list[dict[str, str]]:
    with (out / "poses.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_writes_each_image_under_its_own_name(out):
    written = {p.relative_to(out / "aligned").as_posix() for p in out.glob("aligned/**/*.png")}
    assert {"a/<1>.png.png", "a/<1>.bmp.png", "b/0 ü.png", "b/more.npy_1.png"} <= written
    assert len(written) == 26
    with Image.open(out / "aligned" / "b" / "0 ü.png") as image:
        assert (image.mode, image.size) == ("L", (12, 10))


def test_the_table_has_what_the_model_says_of_each_image(folder, out):
    found = rows(out)
    units = ["degrees", "shift_x", "shift_y", "scale"]
    of_units = [name for unit in units for name in (unit, f"{unit}_sd")]
    assert [*found[0]] == ["file", "class", *of_units, "nll", "cluster"]
    assert len(found) == 26
    assert [row["file"] for row in found][-2:] == ["b/more.npy[0]", "b/more.npy[1]"]
    assert {row["class"] for row in found} == {"a", "b"}
    assert {row["cluster"] for row in found} == {"0", "1"}
    kept = command.load_model(out / "model.safetensors")
    images = command.from_folder(folder).images
    maps = poses.decompose(poses.maps(kept.model, images, kept.reference))
    degrees = torch.tensor([float(row["degrees"]) for row in found])
    sd = torch.tensor([float(row["degrees_sd"]) for row in found])
    assert ((degrees - maps["degrees"]).abs() < sd).all()  # means over 50 draws


def test_the_aligned_images_are_those_of_the_model(folder, out):
    kept = command.load_model(out / "model.safetensors")
    images = command.from_folder(folder).images
    expected = poses.align(kept.model, images, kept.reference).straightened
    with Image.open(out / "aligned" / "b" / "more.npy_1.png") as image:
        assert np.abs(np.asarray(image) - 255 * expected[-1, 0].numpy()).max() <= 0.51
    with Image.open(out / "mean_after.png") as image:
        assert np.abs(np.asarray(image) - 255 * expected.mean(0)[0].numpy()).max() <= 1.1
    assert (out / "mean_of_cluster_1.png").exists()


class Parts(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images, self.words, self.others = [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "img":
            self.images.append(found)
        self.others += [v for k, v in found.items() if k in ("href", "src") and tag != "img"]

    def handle_data(self, text):
        self.words.append(text)


def test_the_report_needs_no_other_file_and_shows_outliers_first(out):
    parts = Parts()
    parts.feed((out / "report.html").read_text(encoding="utf-8"))
    assert all(image["src"].startswith("data:image/png;base64,") for image in parts.images)
    assert all(image["alt"] for image in parts.images)
    assert not parts.others
    text = "\n".join(parts.words)
    heads = ["Outliers", "Before and after", "Means", "Poses", "Worst reconstructions"]
    assert sorted(heads, key=text.index) == heads
    assert "b/notes.txt: not a picture (.txt)" in text
    worst = max(rows(out), key=lambda row: float(row["nll"]))["file"]
    outliers = text[text.index("Outliers") : text.index("Before and after")]
    names = re.findall(r"(?m)^[ab]/.*$", outliers)
    assert (names[0], len(names)) == (worst, 12)


def test_the_record_says_how_training_went(out):
    record = json.loads((out / "record.json").read_bytes())
    assert record["n"] == 26
    assert len(record["history"]) == 3
    assert record["settings"]["warp"] == "similarity"
    assert record["skipped"] == {"b/notes.txt": "not a picture (.txt)"}
    assert {problem["name"] for problem in record["problems"]} <= {*training.CHANGES}


def test_the_same_command_again_trains_nothing_and_another_one_is_refused(
    folder, out, monkeypatch, capsys
):
    before = rows(out)

    def refuse(*_):
        raise AssertionError("a batch was asked for")

    with monkeypatch.context() as patch:
        patch.setattr(data.Batches, "__iter__", refuse)
        command.main([str(folder), "--out", str(out), *SMALL])
    assert rows(out) == before
    for options, wanted in (
        (["--seed", "1"], "belongs to another run: seed was 0, and is 1 now"),
        (["--epochs", "4"], "belongs to another run (epochs was 3, and is 4 now)"),
        (["--rate", "0.1"], "belongs to another run (optimizer was "),
    ):
        with pytest.raises(SystemExit) as info:
            command.main([str(folder), "--out", str(out), *SMALL, *options])
        assert info.value.code == 1
        assert wanted in capsys.readouterr().err


def test_a_model_aligns_other_pictures_of_the_same_kind(folder, out, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    content = (folder / "b" / "3 ü.png").read_bytes()
    (few / "one.png").write_bytes(content)
    command.main(
        [str(few), "--out", str(tmp_path / "out"), "--model", str(out / "model.safetensors")]
    )
    (row,) = rows(tmp_path / "out")
    (same,) = (row for row in rows(out) if row["file"] == "b/3 ü.png")
    # The mean pose is that of the model's own images, so the pose is the same up to its draws.
    assert float(row["shift_x"]) == pytest.approx(
        float(same["shift_x"]), abs=float(same["shift_x_sd"])
    )
    assert not (tmp_path / "out" / "training").exists()


def test_pictures_are_written_without_waiting_for_the_disk_for_each(
    folder, out, tmp_path, monkeypatch
):
    waits, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (waits.append(file), fsync(file)))
    model = ["--model", str(out / "model.safetensors")]
    command.main([str(folder), "--out", str(tmp_path), *model])
    assert len([*tmp_path.glob("aligned/**/*.png")]) == 26
    assert 3 <= len(waits) < 10  # the table, the report, the record and a few means


def test_options_that_a_trained_model_cannot_have_are_refused(folder, out, tmp_path, capsys):
    model = ["--model", str(out / "model.safetensors")]
    of_width = f"--hidden cannot be {training.HIDDEN}: the model was trained with 8"
    for options, wanted in (
        (["--warp", "affine"], "--warp cannot be affine: the model was trained with similarity"),
        (["--epochs", "7"], "--epochs cannot be 7: the model was trained with 3"),
        (["--seed", "7"], "--seed cannot be 7: the model was trained with 0"),
        (["--hidden", str(training.HIDDEN)], of_width),  # given, though it is the default
        (["--noise", "0.1"], "--noise cannot be given: the model was trained without it"),
        (["--colour"], "--colour cannot be given: the model was trained without it"),
    ):
        with pytest.raises(SystemExit):
            command.main([str(folder), "--out", str(tmp_path / "x"), *model, *options])
        assert wanted in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_results_of_other_pictures_are_not_mixed(folder, out, tmp_path, capsys):
    few, mixed = tmp_path / "few", tmp_path / "mixed"
    few.mkdir()
    (few / "one.png").write_bytes((folder / "b" / "3 ü.png").read_bytes())
    model = ["--model", str(out / "model.safetensors")]
    command.main([str(few), "--out", str(mixed), *model])
    command.main([str(few), "--out", str(mixed), *model])  # the same ones may be done again
    with pytest.raises(SystemExit):
        command.main([str(folder), "--out", str(mixed), *model])
    assert "holds the results of other pictures" in capsys.readouterr().err
    for text in ('{"a": 1}', "[]", "{", '{"settings": 3}'):  # another program's, or damaged
        (mixed / "record.json").write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit):
            command.main([str(few), "--out", str(mixed), *model])
        assert "record.json is no record of this command" in capsys.readouterr().err
    assert len(rows(mixed)) == 1


def test_the_record_says_how_pictures_for_a_model_were_prepared(folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    command.main([str(folder), "--out", str(first), *SMALL, "--fit", "crop", "--contrast", "keep"])
    model = ["--model", str(first / "model.safetensors")]
    command.main([str(folder), "--out", str(second), *model, "--contrast", "stretch"])
    settings = json.loads((second / "record.json").read_bytes())["settings"]
    assert (settings["fit"], settings["contrast"], settings["epochs"]) == ("crop", "stretch", 3)


def test_with_a_model_poses_are_measured_from_the_mean_pose_of_its_own_images(folder, tmp_path):
    images = command.from_folder(folder).images
    with seeded(5):
        model = training.new_model("similarity", SIZE, 2, 8)
        for layer in (model.encoder.mu_u, model.decoder.pose):  # poses that differ much
            torch.nn.init.normal_(layer.weight, std=2.0)
    settings = {"warp": "similarity", "latents": 2, "hidden": 8, **command.DEFAULTS}
    command.save_model(tmp_path / "m", command.Kept(model, images[:5], settings))
    command.main([str(folder), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "m")])
    found = torch.tensor([float(row["shift_x"]) for row in rows(tmp_path / "out")])
    with Image.open(tmp_path / "out" / "aligned" / "b" / "more.npy_1.png") as image:
        straight = torch.from_numpy(np.asarray(image) / 255).float()

    def off(reference: data.Images) -> tuple[float, float]:
        """How far the table and a picture are from those with the mean pose of this set."""
        with seeded(0):  # as the first block of images
            shift = poses.table(model, images, reference, nll_samples=aligning.NLL_SAMPLES)
        expected = poses.align(model, images, reference).straightened[-1, 0]
        return (found - shift["shift_x"]).abs().median().item(), (
            straight - expected
        ).abs().mean().item()

    (of_table, of_picture), (wrong, wrong_picture) = off(images[:5]), off(images)
    assert of_table < 1e-3 < 0.02 < wrong
    assert of_picture < 0.01 < wrong_picture


def test_a_dry_run_writes_nothing(folder, out, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "seconds_for", lambda *_, **__: 150.0)
    command.main([str(folder), "--out", str(tmp_path / "out"), "--dry-run"])
    printed = capsys.readouterr().out
    assert printed.startswith("26 images of 10 x 12 pixels in 2 folders: a, b\n")
    assert "for 600 epochs would take about 2 min" in printed
    model = ["--model", str(out / "model.safetensors")]
    command.main([str(folder), "--out", str(tmp_path / "out"), "--dry-run", *model])
    assert "nothing is trained" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_times_the_model_that_would_be_trained(folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "seconds_for", lambda *_, **o: asked.append(o) or 1.0)
    run = [str(folder), "--out", str(tmp_path / "out"), "--dry-run"]
    command.main([*run, "--hidden", "9", "--latents", "3"])
    assert (asked[0]["hidden"], asked[0]["dim_z"]) == (9, 3)


def test_a_dry_run_of_too_few_pictures_says_so(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(np.eye(9, k=i, dtype=np.uint8) * 255).save(tmp_path / "in" / f"{i}.png")
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--dry-run"])
    assert "at least 20 images" in capsys.readouterr().err


def test_the_likelihood_is_named_wherever_its_nll_stands(folder, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    command.main([str(folder), "--out", str(out), *SMALL, "--likelihood", "continuous-bernoulli"])
    model = ["--model", str(out / "model.safetensors")]
    command.main([str(folder), "--out", str(again), *SMALL, *model])
    for made in (out, again):
        assert "nll_continuous_bernoulli" in rows(made)[0]
        assert "nll" not in rows(made)[0]
        record = json.loads((made / "record.json").read_bytes())
        assert record["settings"]["likelihood"] == "continuous-bernoulli"
        report_ = (made / "report.html").read_text(encoding="utf-8")
        assert "likelihood of a pixel: continuous-bernoulli" in report_
        assert "<th>nll_continuous_bernoulli</th>" in report_


def test_colours_go_through_to_the_aligned_images(tmp_path, capsys):
    """Pictures that are not square, whose two halves differ in colour and not in shade."""
    (tmp_path / "in").mkdir()
    bars = torch.zeros(20, 3, *SIZE)
    bars[:, 0, 2:5, 5:7] = 1
    bars[:, 2, 5:8, 5:7] = 1
    moves = Moves(degrees=20, shift=1)
    for i, x in enumerate(moved.moved(data.from_tensor(bars), moves).pixels):
        Image.fromarray(x.movedim(0, -1).numpy()).save(tmp_path / "in" / f"{i}.png")
    out, again = tmp_path / "out", tmp_path / "again"
    command.main([str(tmp_path / "in"), "--out", str(out), *SMALL, "--colour"])
    model = ["--model", str(out / "model.safetensors")]
    command.main([str(tmp_path / "in"), "--out", str(again), *SMALL, *model])
    kept = command.load_model(out / "model.safetensors")
    assert (kept.model.shape, kept.model.size) == ((3, *SIZE), SIZE)
    found = command.from_folder(tmp_path / "in", channels=3)
    expected = poses.align(kept.model, found.images, kept.reference)
    assert expected.canonical.shape == expected.straightened.shape == (20, 3, *SIZE)
    for made in (out, again):
        assert json.loads((made / "record.json").read_bytes())["settings"]["colour"] is True
        with Image.open(made / "aligned" / "7.png") as image:
            assert image.mode == "RGB"
            shown = torch.from_numpy(np.array(image)).movedim(-1, 0)
        assert (shown - 255 * expected.straightened[found.files.index("7.png")]).abs().max() < 0.51
    assert not kept.reference.pixels[:, 1].any()  # there was no green


def test_what_is_refused(folder, tmp_path, capsys, subtests):
    (tmp_path / "text.safetensors").write_text("text", encoding="utf-8")
    for arguments, sentence in {
        (str(tmp_path / "nowhere"), "--out", str(tmp_path)): "there is no folder",
        (str(folder), "--out", str(folder / "out")): "lies in the folder of pictures",
        (str(folder), "--out", str(tmp_path), "--model", "none"): "there is no model none",
        (str(folder), "--out", str(tmp_path), "--model", str(tmp_path / "text.safetensors")): (
            "was not written by this command, or is damaged"
        ),
        (str(folder), "--out", str(tmp_path), "--noise", "0.1"): "only the likelihood 'normal' has",
        (str(folder), "--out", str(tmp_path), "--size", "4x5x6"): "a side or HEIGHTxWIDTH",
        (str(folder), "--out", str(tmp_path), "--epochs", "0"): "a whole number of at least 1",
    }.items():
        with subtests.test(sentence):
            with pytest.raises(SystemExit) as info:
                command.main(arguments)
            assert info.value.code in (1, 2)
            assert sentence in capsys.readouterr().err


# Their parts.


def test_clusters_are_numbered_by_their_size():
    z = torch.cat([torch.zeros(2, 3), torch.ones(7, 3), -torch.ones(4, 3)])
    assert aligning._clusters(z, 3).tolist() == [2] * 2 + [0] * 7 + [1] * 4
    assert aligning._clusters(z, 1).tolist() == [0] * 13
    sizes = [3, 9, 5, 7, 1]
    z = 10 * torch.eye(5).repeat_interleave(torch.tensor(sizes), 0)
    found = aligning._clusters(z, 5)
    assert found.bincount().tolist() == sorted(sizes, reverse=True)


def test_blocks_change_nothing(monkeypatch):
    model = training.new_model("affine", SIZE, 2, 8)
    images = data.from_tensor(torch.rand(7, 1, *SIZE))
    whole = torch.cat([block.straightened for block in aligning.aligned(model, images, images)])
    z = aligning.examine(model, images, images).z
    monkeypatch.setattr(aligning, "BLOCK", 3)
    parts = [block.straightened for block in aligning.aligned(model, images, images)]
    assert [len(part) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(aligning.examine(model, images, images).z, z)
    assert aligning.rebuilt(model, images).shape == images.x.shape


def test_the_outliers_are_the_images_with_the_highest_nll():
    table = poses.Poses({"degrees": torch.zeros(3), "nll": torch.tensor([5.0, 9, 7])})
    found = aligning.Findings(table, torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))
    assert found.outliers(2) == [1, 2]


def test_at_most_500_images_set_the_mean_pose():
    assert len(aligning.reference_of(data.from_tensor(torch.rand(1_001, 1, 2, 2)))) == 500


def test_shear_and_bend_are_columns_of_warps_that_have_them():
    images = data.from_tensor(torch.rand(3, 1, *SIZE))

    def columns(warp: str) -> set[str]:
        findings = aligning.examine(training.new_model(warp, SIZE, 2, 8), images, images)
        return {*command._columns(findings, {"warp": warp})}

    assert {"shear", "scale_y", "bend", "reflected", "nll"} <= columns("tps")
    assert {"shear", "bend"} & columns("affine") == {"shear"}
    shift = {name + sd for name in ("shift_x", "shift_y") for sd in ("", "_sd")}
    stiff = {"nll", "degrees", "degrees_sd", "scale", "scale_sd"} | shift
    assert columns("similarity") == stiff
    assert columns("rotation") == {"nll", "degrees", "degrees_sd"}
    assert columns("translation") == {"nll"} | shift


def test_a_png_holds_the_picture():
    x = torch.tensor([[[0.0, 0.5], [1.0, 2.0]]])
    with Image.open(io.BytesIO(report.png(x))) as image:
        assert np.asarray(image).tolist() == [[0, 128], [255, 255]]
    with Image.open(io.BytesIO(report.png(torch.cat([x, x / 2, 0 * x])))) as image:
        assert np.asarray(image)[0, 1].tolist() == [128, 64, 0]


@pytest.mark.parametrize("warp", command.CONSTANT)
def test_every_warp_ends_with_a_report_and_a_table(warp, folder, tmp_path):
    short = ["--epochs", "1", "--hidden", "8", "--latents", "2", "--size", "12"]
    command.main([str(folder), "--out", str(tmp_path / "out"), "--warp", warp, *short])
    for name in ("report.html", "poses.csv", "record.json"):
        assert (tmp_path / "out" / name).exists()


def test_pictures_whose_names_clash_twice_get_files_of_their_own():
    names = command._aligned_names(["0.png", "0.bmp", "0.png.bmp", "a/1.tif", "b.npy[0]"])
    assert len({*names}) == 5
    assert names[3:] == ["a/1.png", "b.npy_0.png"]
    assert all(name.endswith(".png") for name in names)
    names = command._aligned_names(["a.png", "a.jpg", "a.png.png"])  # clash three times
    assert len({*names}) == 3


def test_pictures_that_the_results_would_overwrite_are_refused(folder, tmp_path, capsys):
    inside = tmp_path / "project" / "aligned"
    shutil.copytree(folder, inside)
    with pytest.raises(SystemExit):
        command.main([str(inside), "--out", str(inside.parent), "--dry-run"])
    assert "would overwrite the pictures" in capsys.readouterr().err


def test_as_many_clusters_as_pictures_are_one_for_each():
    z = torch.arange(4.0)[:, None]
    assert aligning._clusters(z, 1).tolist() == [0] * 4
    assert aligning._clusters(z, 4).tolist() == aligning._clusters(z, 9).tolist() == [0, 1, 2, 3]


def test_a_dry_run_finds_results_of_other_pictures(folder, out, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    (few / "one.png").write_bytes((folder / "b" / "3 ü.png").read_bytes())
    model = ["--model", str(out / "model.safetensors")]
    with pytest.raises(SystemExit):
        command.main([str(few), "--out", str(out), "--dry-run", *model])
    assert "holds the results of other pictures" in capsys.readouterr().err


def test_a_column_that_is_constant_up_to_rounding_has_a_histogram():
    values = 1 + 1e-7 * torch.rand(50)
    assert "histograms of scale" in report._histograms({"scale": values, "still": torch.zeros(9)})
