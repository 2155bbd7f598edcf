"""Laws of the data: what loads, what is refused, what a batch holds. Nothing is downloaded: these
tests stand in for the network."""

import errno
import gzip
import hashlib
import http.client
import itertools
import math
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from tvae_core import data
from tvae_core.experiments import runner
from tvae_core.runtime import seeded

# The bundled digits.

SPLITS = {
    "train": (
        [901, 1015, 892, 928, 882, 777, 913, 963, 849, 880],
        "4bcd367cebf1ba5d81c538c3a39cd1681f67ad0024135ff31d9a604d45a22a58",
    ),
    "test": (
        [100, 112, 99, 104, 98, 86, 101, 107, 95, 98],
        "a49fcc4e201df7506ac57fd93abd18e9dd3aa5b9c3ad5c4b218c0a0d6ac9a9e8",
    ),
}


@pytest.mark.parametrize("split", SPLITS)
def test_the_mini_set_is_the_same_everywhere_and_loads_within_a_second(split):
    start = time.process_time()  # the time of this process, since the machine may be busy
    images = data.load("mini", split)
    assert time.process_time() - start < 1
    counts, sha256 = SPLITS[split]
    assert images.pixels.shape == (sum(counts), 1, 28, 28)
    assert images.pixels.dtype == torch.uint8
    assert images.labels.bincount().tolist() == counts
    assert images.sha256() == sha256
    assert images.name == "mini"


def test_no_mini_image_occurs_twice_and_none_is_in_both_splits():
    both = torch.cat([data.load("mini", split).pixels for split in SPLITS])
    assert len({image.numpy().tobytes() for image in both}) == len(both) == 10_000


@pytest.mark.parametrize("split", SPLITS)
def test_the_bundled_garments_are_fifty_of_each_class(split):
    images = data.load("mini-fashion", split)
    assert images.pixels.shape == (500, 1, 28, 28)
    assert images.labels.bincount().tolist() == [50] * 10
    assert images.name == "mini-fashion"
    # Trousers are upright and narrow; bags are not.
    spread = [images.x[images.labels == c].mean((0, 1, 2)).std() for c in (1, 8)]
    assert spread[0] > 1.5 * spread[1]


def test_no_garment_occurs_twice():
    both = torch.cat([data.load("mini-fashion", split).pixels for split in SPLITS])
    assert len({image.numpy().tobytes() for image in both}) == len(both) == 1_000


@pytest.mark.parametrize("name", data.BUNDLED)
def test_bundled_images_that_are_damaged_are_refused(name, monkeypatch):
    monkeypatch.setattr(data, "BUNDLED_SHA256", dict.fromkeys(data.BUNDLED_SHA256, "another"))
    with pytest.raises(OSError, match=r"the bundled \w+.npz is damaged; install tvae_core again"):
        data.load(name, "test")


# The reader's own images.


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (1, 1, 5, 9)])
def test_own_images_are_rounded_to_256_gray_levels(shape):
    with seeded(0):
        levels, off = torch.randint(0, 256, shape), torch.rand(shape) - 0.5
    x = ((levels + 0.8 * off) / 255).clamp(0, 1)
    images = data.from_tensor(x, torch.arange(shape[0], dtype=torch.int32), "mine")
    assert torch.equal(images.pixels.long(), levels)
    assert torch.equal(images.x, levels.float() / 255)
    assert images.labels.dtype == torch.int64
    assert (len(images), images.size, images.name) == (shape[0], shape[-2:], "mine")


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (torch.zeros(3, 28, 28), r"shape \(N, 1, H, W\).*got \(3, 28, 28\).*unsqueeze\(1\)"),
        (torch.zeros(3, 2, 28, 28), r"shape \(N, 1, H, W\), or \(N, 3, H, W\) in colour, .*got"),
        (torch.zeros(0, 1, 28, 28), r"got \(0, 1, 28, 28\)"),
        (torch.full((1, 1, 2, 2), math.nan), "NaN or infinite"),
        (torch.full((1, 1, 2, 2), math.inf), "NaN or infinite"),
        (torch.tensor([0.0, 254.5]).view(1, 1, 1, 2), r"\[0, 254.5\]; divide by 255$"),
        (torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2), "divide by 255$"),
        (torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2), r"must lie in \[0, 1\], got \[-1, 1\]$"),
        (torch.tensor([0.0, 300.0]).view(1, 1, 1, 2), r"got \[0, 300\]$"),
    ],
)
def test_tensors_that_are_not_gray_images_are_refused(x, complaint):
    with pytest.raises(ValueError, match=complaint):
        data.from_tensor(x)


@pytest.mark.parametrize("labels", [torch.zeros(4), torch.zeros(3, 1)])
def test_labels_must_match_the_images(labels):
    with pytest.raises(ValueError, match=r"3 images need 3 labels, got shape \("):
        data.from_tensor(torch.zeros(3, 1, 2, 2), labels)


def gray_levels(n: int) -> data.Images:
    """n images of 2 x 3 pixels; every pixel of image i has gray level i, which identifies it."""
    levels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 3)
    return data.Images(levels, torch.arange(n), "levels")


@pytest.mark.parametrize("index", [slice(2, 5), slice(None, None, 3), torch.tensor([4, 0, 4])])
def test_a_subset_keeps_images_and_labels_together(index):
    subset = gray_levels(10)[index]
    assert torch.equal(subset.pixels[:, 0, 0, 0].long(), torch.arange(10)[index])
    assert torch.equal(subset.labels, torch.arange(10)[index])


def test_the_hash_depends_on_pixels_order_and_shape():
    images = gray_levels(6)
    others = [
        images[:5],
        images[torch.tensor([1, 0, 2, 3, 4, 5])],
        data.Images(images.pixels.reshape(6, 1, 3, 2), None, "other shape"),
    ]
    assert images.sha256() == gray_levels(6).to("cpu").sha256()
    assert len({images.sha256(), *(other.sha256() for other in others)}) == 4


# Batches.


def levels_of(batches) -> list[list[int]]:
    return [(x[:, 0, 0, 0] * 255).round().long().tolist() for x in batches]


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 9, [3])]
)
def test_each_epoch_gives_every_image_once_in_a_fresh_order(n, batch_size, sizes):
    batches = data.Batches(gray_levels(n), batch_size)
    with seeded(0):
        epochs = [levels_of(batches) for _ in range(5)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == sizes
        assert sorted(level for batch in epoch for level in batch) == list(range(n))
    assert len(batches) == len(sizes)
    assert len({str(epoch) for epoch in epochs}) > 1
    with seeded(0):
        assert [levels_of(batches) for _ in range(5)] == epochs


def test_gray_batches_are_the_images_in_the_unit_interval():
    images = data.from_tensor(torch.linspace(0, 1, 256).view(1, 1, 16, 16))
    (x,) = data.Batches(images, 1, "none")
    assert torch.equal(x, images.x)


def test_dynamic_binarization_redraws_each_epoch_with_the_gray_value_as_its_mean():
    images = data.from_tensor(torch.linspace(0, 1, 256).view(1, 1, 16, 16))
    batches = data.Batches(images, 1, "dynamic")
    n = 1000
    with seeded(0):
        draws = torch.cat([x for _ in range(n) for x in batches])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(draws[0], draws[1])
    gray = images.x[0]
    se = (gray * (1 - gray) / n).sqrt()
    assert ((draws.mean(0) - gray).abs() <= 4 * se).all()  # exact for black and white


def test_labels_must_be_whole_numbers_one_for_each_image():
    x = torch.zeros(2, 1, 3, 3)
    assert data.from_tensor(x, [1.0, 2.0]).labels.equal(torch.tensor([1, 2]))
    for labels in ([0.9, 1], [math.nan, 1]):
        with pytest.raises(ValueError, match="labels must be whole numbers"):
            data.from_tensor(x, labels)
    with pytest.raises(ValueError, match="2 images, but 3 labels"):
        data.Images(data.from_tensor(x).pixels, torch.arange(3), "own")


def test_fixed_binarization_depends_only_on_its_seed():
    images = data.load("mini", "test")
    torch.manual_seed(1)
    fixed = data.binarize_fixed(images)
    drawn_after = torch.rand(())
    torch.manual_seed(1)
    assert drawn_after == torch.rand(())  # other draws are not disturbed
    assert set(fixed.pixels.unique().tolist()) == {0, 255}
    # It is drawn on the CPU, so it is the same on any device.
    expected = "f223dbb99cab4ad65b4a678848b4d7a74fa6604b20c56b113cf124df032aa845"
    assert fixed.sha256() == expected
    assert data.binarize_fixed(images, seed=1).sha256() != expected
    assert torch.equal(fixed.labels, images.labels)
    assert "seed 0" in fixed.name


def test_fixed_binarization_has_the_gray_value_as_its_mean():
    gray = data.from_tensor(torch.full((1, 1, 100, 100), 0.3))
    se = math.sqrt(0.3 * 0.7 / 10_000)
    assert data.binarize_fixed(gray).x.mean().item() == pytest.approx(0.3, abs=4 * se)


def test_a_batch_size_below_one_and_an_unknown_binarization_are_refused():
    with pytest.raises(ValueError, match="unknown binarization 'random'; known: none, dynamic"):
        data.Batches(gray_levels(3), 2, "random")
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        data.Batches(gray_levels(3), 0)


# Downloads. torchvision's own classes read the files; only their method `download` is replaced, by
# one that takes the files from a small source.


class Source:
    """A stand-in for the network: its files, how often it was asked, and how it fails."""

    def __init__(self, log: Path) -> None:
        self.log = log  # a file, so that other processes can write to it as well
        self.failure: BaseException | None = None
        self.seconds = 0.0

    def content(self, name: str) -> dict[str, bytes]:
        """The four files of a data set, with 6 training and 3 test images."""
        files = {}
        for part, n in (("train", 6), ("t10k", 3)):
            pixels = hashlib.shake_128(f"{name} {part}".encode()).digest(n * 28 * 28)
            files[f"{part}-images-idx3-ubyte"] = struct.pack(">4i", 2051, n, 28, 28) + pixels
            files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, n) + bytes(range(n))
        return files

    def download(self, dataset) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write("asked\n")
        time.sleep(self.seconds)
        raw = Path(dataset.raw_folder)
        raw.mkdir(parents=True, exist_ok=True)
        for i, (file, content) in enumerate(self.content(type(dataset).__name__).items()):
            if self.failure and i == 1:
                (raw / file).write_bytes(content[:5])
                raise self.failure
            (raw / file).write_bytes(content)

    @property
    def asked(self) -> int:
        return len(self.log.read_text(encoding="utf-8").splitlines()) if self.log.exists() else 0


@pytest.fixture
def source(tmp_path, monkeypatch) -> Source:
    source = Source(tmp_path / "log")
    datasets = data.import_torchvision_datasets()
    monkeypatch.setattr(datasets.MNIST, "download", lambda dataset: source.download(dataset))
    monkeypatch.setenv("TVAE_DATA", str(tmp_path / "data"))
    sums = {f: hashlib.sha256(c).hexdigest() for f, c in source.content("MNIST").items()}
    monkeypatch.setattr(data, "MNIST_SHA256", sums)
    return source


@pytest.fixture
def raw(tmp_path) -> Path:
    return tmp_path / "data" / "MNIST" / "raw"


def leftovers(tmp_path: Path) -> list[str]:
    """Everything in the data folder except data sets and locks."""
    expected = {*data.DATASETS.values(), *(f".{name}.lock" for name in data.DATASETS)}
    return [path.name for path in (tmp_path / "data").iterdir() if path.name not in expected]


@pytest.mark.parametrize("name", data.DATASETS)
def test_images_are_fetched_once_and_read_from_the_folder_afterwards(source, tmp_path, name):
    for split, n in (("train", 6), ("test", 3)) * 2:
        images = data.load(name, split)
        part = "train" if split == "train" else "t10k"
        content = source.content(data.DATASETS[name])[f"{part}-images-idx3-ubyte"]
        assert images.pixels.numpy().tobytes() == content[16:]
        assert images.pixels.shape == (n, 1, 28, 28)
        assert images.labels.tolist() == list(range(n))
        assert images.name == name
    assert source.asked == 1
    assert leftovers(tmp_path) == []


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half-written": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "corrupt": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xee"),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "packed": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
}


def check_repair(source: Source, name: str, damage: str, file: str) -> None:
    """A data set that is damaged after it was fetched is fetched a second time."""
    shutil.rmtree(data.data_folder(), ignore_errors=True)
    asked = source.asked
    before = data.load(name, "train").sha256(), data.load(name, "test").sha256()
    DAMAGE[damage](data.data_folder() / data.DATASETS[name] / "raw" / file)
    after = data.load(name, "train").sha256(), data.load(name, "test").sha256()
    assert after == before
    assert source.asked == asked + 2


def test_a_damaged_file_is_fetched_again(subtests, source):
    for name, file, damage in itertools.product(data.DATASETS, data.RAW_FILES, DAMAGE):
        with subtests.test(name, file=file, damage=damage):
            check_repair(source, name, damage, file)


def test_recorded_sums_that_are_damaged_are_recorded_again(subtests, source):
    for damage in [*DAMAGE.keys() - {"missing"}]:  # without any, files count as placed by hand
        with subtests.test(damage):
            check_repair(source, "fashion-mnist", damage, "sha256.json")


def test_a_killed_fetch_leaves_no_partial_files(source, tmp_path, raw):
    source.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        data.load("mnist", "train")
    assert not raw.exists()
    assert leftovers(tmp_path) == []
    # A process that is killed outright leaves a lock, a folder, half the files: they do no harm.
    (tmp_path / "data" / ".mnist.dead").mkdir()
    raw.mkdir(parents=True)
    (raw / data.RAW_FILES[0]).write_bytes(b"half")
    source.failure = None
    assert len(data.load("mnist", "train")) == 6


def test_a_download_with_a_wrong_sum_is_an_error_and_is_not_kept(
    source, tmp_path, raw, monkeypatch
):
    monkeypatch.setattr(data, "MNIST_SHA256", dict.fromkeys(data.RAW_FILES, "0" * 64))
    with pytest.raises(ConnectionError, match=r"'mnist' arrived damaged \(SHA-256 differs\)"):
        data.load("mnist", "train")
    assert not raw.exists()
    assert leftovers(tmp_path) == []


NO_NETWORK = [
    URLError("[Errno -3] Temporary failure in name resolution"),
    RuntimeError("Error downloading train-images-idx3-ubyte.gz"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError(),
    http.client.IncompleteRead(b"half"),
]


@pytest.mark.parametrize("failure", NO_NETWORK, ids=lambda failure: type(failure).__name__)
def test_without_a_network_the_error_says_what_to_do(source, tmp_path, raw, failure):
    source.failure = failure
    with pytest.raises(ConnectionError, match=r"could not download 'mnist'.*load\('mini'") as info:
        data.load("mnist", "train")
    assert f"files into {raw} (now {data.RAW_FILES[0]} is missing);" in str(info.value)
    assert not raw.exists()
    assert leftovers(tmp_path) == []


def place(source: Source, name: str) -> Path:
    """The four files of a data set, where the error of a failed download says that they belong."""
    with pytest.raises(ConnectionError) as info:
        data.load(name, "train")
    folder = Path(str(info.value).partition("files into ")[2].partition(" (now")[0])
    folder.mkdir(parents=True)
    for file, content in source.content(data.DATASETS[name]).items():
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", data.DATASETS)
def test_files_placed_by_hand_are_loaded_without_a_network(source, name):
    source.failure = URLError("no route to host")
    folder, asked = place(source, name), source.asked
    for split, file in (("train", "train-images-idx3-ubyte"), ("test", "t10k-images-idx3-ubyte")):
        images = data.load(name, split)
        assert images.pixels.numpy().tobytes() == (folder / file).read_bytes()[16:]
        assert images.labels.tolist() == list(range(len(images)))
    assert source.asked == asked


COMPLAINTS = {
    "truncated": r" is damaged \(\S+ bytes instead of ",
    "too long": r" is damaged \(\S+ bytes instead of ",
    "empty": r" is damaged \(no idx file\)",
    "missing": " is missing",
    "packed": r" is damaged \(still packed: gunzip it\)",
}


@pytest.mark.parametrize("name", data.DATASETS)
def test_a_bad_file_placed_by_hand_is_named_with_what_is_wrong(subtests, source, name):
    source.failure = URLError("no route to host")
    folder = place(source, name)
    for file, (damage, complaint) in itertools.product(data.RAW_FILES, COMPLAINTS.items()):
        with subtests.test(file=file, damage=damage):
            right = (folder / file).read_bytes()
            DAMAGE[damage](folder / file)
            with pytest.raises(ConnectionError, match=rf"\(now {file}{complaint}"):
                data.load(name, "test")
            (folder / file).write_bytes(right)
    images, labels = (folder / file for file in data.RAW_FILES[2:])
    (folder / f"{images.name}.gz").write_bytes(gzip.compress(images.read_bytes()))
    images.unlink()
    with pytest.raises(ConnectionError, match=r"t10k-images\S+ is missing; unpack \S+gz with gunz"):
        data.load(name, "test")
    images.write_bytes(gzip.decompress((folder / f"{images.name}.gz").read_bytes()))
    other = "the wrong file, or damaged" if name == "mnist" else "6 labels for 3 images"
    labels.write_bytes((folder / data.RAW_FILES[1]).read_bytes())
    with pytest.raises(ConnectionError, match=rf"\(now {labels.name} .*{other}"):
        data.load(name, "test")


WITHOUT_TORCHVISION = """
import sys, pkgutil, importlib
sys.modules["torchvision"] = None  # as if it were not installed
import tvae_core
for module in pkgutil.walk_packages(tvae_core.__path__, "tvae_core."):
    importlib.import_module(module.name)
from tvae_core import data
assert data.load("mnist", "test", fallback="mini").name == "mini"
data.load("mnist", "test")
"""


def test_torchvision_is_needed_for_downloads_alone(tmp_path):
    project = (Path(data.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    required = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    assert '"torch>=' in required
    assert "torchvision" not in required
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCHVISION],
        env={**os.environ, "TVAE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "Run: pip install torchvision; or put" in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("ConnectionError: could not download")


def test_without_a_home_directory_the_fallback_loads(monkeypatch, capsys):
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TVAE_DATA")
    monkeypatch.delenv("TVAE_RUNS")
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert data.load("mnist", "test", fallback="mini").name == "mini"
    assert "there is no home directory" in capsys.readouterr().out
    for needs_it in (lambda: data.load("mnist", "test"), runner.runs_folder):
        with pytest.raises(OSError, match=r"no home directory; set TVAE_DATA"):
            needs_it()


def test_the_real_download_of_torchvision_fails_as_expected_without_a_network(
    tmp_path, monkeypatch
):
    datasets = data.import_torchvision_datasets()
    # Port 9 of this machine, where nothing listens.
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TVAE_DATA", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"could not download 'mnist'"):
        data.load("mnist", "train")


def test_the_fallback_is_announced_and_never_used_unless_requested(source, capsys):
    source.failure = URLError("no route to host")
    with pytest.raises(ConnectionError):
        data.load("mnist", "test")
    images = data.load("mnist", "test", fallback="mini")
    printed = capsys.readouterr().out
    assert "no route to host" in printed
    assert "Continuing with 'mini': 1,000 bundled images instead of 'mnist'" in printed
    assert images.name == "mini"
    assert images.sha256() == data.load("mini", "test").sha256()
    source.failure = None
    assert data.load("mnist", "test", fallback="mini").name == "mnist"
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_an_error_despite_a_fallback(
    source, tmp_path, monkeypatch
):
    # Root may write to any folder, but not even root can make a folder inside a file.
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("TVAE_DATA", str(folder))
        with pytest.raises(OSError, match=r"cannot write images to .*file.*set TVAE_DATA") as info:
            data.load("mnist", "train", fallback="mini")
        assert not isinstance(info.value, ConnectionError)
    assert source.asked == 0


def test_a_full_disk_is_noticed_before_anything_is_fetched(source, monkeypatch):
    # On a full disk, folders and locks can still be made, because they are empty.
    def write_bytes(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match=r"cannot write images to .*No space left.*150 MB free"):
        data.load("mnist", "train")
    assert source.asked == 0


def test_a_disk_that_fills_up_is_an_error_despite_a_fallback(source, tmp_path, raw):
    source.failure = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"no space left in .*free 150 MB or set TVAE_DATA") as info:
        data.load("mnist", "train", fallback="mini")
    assert str(tmp_path / "data") in str(info.value)
    assert not raw.exists()
    assert leftovers(tmp_path) == []  # the partial download is removed


def load_and_report(queue) -> None:
    queue.put(data.load("mnist", "train").sha256())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to share the source")
def test_two_processes_at_the_same_time_fetch_only_once(source):
    source.seconds = 0.3  # long enough for the second to arrive while the first is downloading
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=load_and_report, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    hashes = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert source.asked == 1
    assert hashes == [data.load("mnist", "train").sha256()] * 2


def test_an_unknown_name_or_split_is_refused_with_a_list_of_the_known_ones():
    known = (
        "known: mnist, fashion-mnist, mini, mini-fashion, letters, moved-mnist, "
        "moved-fashion-mnist, moved-mini, moved-mini-fashion, turned-mnist, .*, bent-mini-fashion$"
    )
    with pytest.raises(ValueError, match=f"unknown data set 'emnist'; {known}"):
        data.load("emnist", "train")
    for name in (*data.NAMES, *data.MADE):
        with pytest.raises(ValueError, match=r"unknown split 'valid'; known: train, test$"):
            data.load(name, "valid")
        with pytest.raises(ValueError, match="unknown fallback 'nope'; known: "):
            data.load(name, "test", fallback="nope")


def test_tvae_data_sets_the_folder(monkeypatch):
    monkeypatch.setenv("TVAE_DATA", "~/images")
    assert data.data_folder() == Path.home() / "images"
    monkeypatch.delenv("TVAE_DATA")
    assert data.data_folder() == Path.home() / ".cache" / "tvae_core"


def test_torchvision_can_be_imported_more_than_once():
    datasets = data.import_torchvision_datasets()
    assert data.import_torchvision_datasets() is datasets
    assert all(hasattr(datasets, name) for name in data.DATASETS.values())


def test_a_single_image_is_a_slice():
    with pytest.raises(TypeError, match=r"one image is images\[i : i \+ 1\]"):
        data.load("mini", "test")[0]
