"""Laws of random numbers, files and devices."""

import errno
import multiprocessing
import os
import platform
import signal
import time
from pathlib import Path

import pytest
import torch

from tvae_core import runtime
from tvae_core.runtime import (
    locked,
    pick_device,
    rng_state,
    seeded,
    set_rng_state,
    write_atomically,
)


def test_draws_in_a_seeded_block_depend_on_the_seed_and_later_draws_do_not():
    torch.manual_seed(1)
    undisturbed = torch.rand(4)
    torch.manual_seed(1)
    with seeded(0):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(4), undisturbed)
    with seeded(0):
        assert torch.equal(torch.rand(3), inside)
    with seeded(5):
        assert not torch.equal(torch.rand(3), inside)


def test_generators_are_restored_after_an_error_too():
    before = torch.get_rng_state()

    def fail() -> None:
        with seeded(0):
            torch.rand(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_saved_state_gives_the_same_draws_again():
    state = rng_state()
    draws = torch.rand(3)
    set_rng_state(state)
    assert torch.equal(torch.rand(3), draws)


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


@pytest.fixture
def halfway(monkeypatch):
    """A function that makes something happen after the bytes were written, before they are kept."""
    return lambda happen: monkeypatch.setattr(os, "fsync", happen)


def raising(error: BaseException):
    def fail(_) -> None:
        raise error

    return fail


def test_a_write_leaves_the_file_and_nothing_else(path):
    write_atomically(path, b"new")
    write_atomically(path.parent / "below" / "file", b"new")
    assert {p.name for p in path.parent.iterdir()} == {"file", "below"}
    assert path.read_bytes() == (path.parent / "below" / "file").read_bytes() == b"new"


def test_the_old_file_can_be_read_until_the_new_one_is_complete(path, halfway):
    seen = []
    halfway(lambda _: seen.append(path.read_bytes()))
    write_atomically(path, b"new")
    assert seen == [b"old"]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a file that is open")
def test_who_has_opened_the_old_file_reads_it_to_its_end(path):
    with path.open(encoding="utf-8") as old:
        write_atomically(path, b"new")
        assert old.read() == "old"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, halfway, failure):
    halfway(raising(failure()))
    with pytest.raises(failure):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_moved_is_deleted(path):
    """A folder is in its place."""
    (path.parent / "folder" / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="cannot write"):
        write_atomically(path.parent / "folder", b"new")
    assert {file.name for file in path.parent.iterdir()} == {"file", "folder"}


def test_a_failed_write_closes_its_file_before_it_deletes_it(path, halfway, monkeypatch):
    """Windows cannot delete an open file."""
    opened, delete = [], Path.unlink

    def fail(descriptor: int) -> None:
        opened.append(descriptor)
        raise ValueError

    def delete_closed(file: Path, **options) -> None:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(opened[0])
        delete(file, **options)

    halfway(fail)
    monkeypatch.setattr(Path, "unlink", delete_closed)
    with pytest.raises(ValueError, match=r"^$"):
        write_atomically(path, b"new")
    assert opened


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def die_while_writing(path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(path, b"half")
        os._exit(1)
    os.waitpid(child, 0)


@needs_fork
def test_a_process_that_dies_while_writing_leaves_the_old_file(path):
    die_while_writing(path)
    assert path.read_bytes() == b"old"


@needs_fork
def test_the_next_write_sweeps_what_a_killed_process_left(path):
    other = path.parent / "file.json"
    for written in (path, other):
        die_while_writing(written)
        (half,) = (p for p in path.parent.iterdir() if p != path)
        assert half.is_file()  # the only one: the second write swept what the first one left
    write_atomically(path, b"new")
    assert [*path.parent.iterdir()] == [path]


def test_many_files_are_written_without_listing_their_folder_for_each(tmp_path, monkeypatch):
    listed, glob = [], Path.glob

    def listing(folder, *patterns):
        listed.append(folder)
        return glob(folder, *patterns)

    monkeypatch.setattr(Path, "glob", listing)
    for name in "abc":
        write_atomically(tmp_path / name, b"new")
    assert listed == [tmp_path]


def test_the_temporary_file_of_a_living_process_stays(path, halfway):
    """As when two processes write the same file; here the other write happens inside the first."""
    seen = []

    def write_in_between(_) -> None:
        halfway(lambda _: None)
        before = set(path.parent.iterdir())
        write_atomically(path, b"other")
        seen.append(before <= set(path.parent.iterdir()))

    halfway(write_in_between)
    write_atomically(path, b"new")
    assert seen == [True]
    assert path.read_bytes() == b"new"


def test_a_file_that_only_looks_like_a_temporary_one_stays(path):
    other = path.with_name(f".file+{platform.node()}+notes+on")
    other.touch()
    write_atomically(path, b"new")
    assert other.exists()


@pytest.mark.parametrize(("age", "stays"), [(3_600, True), (100_000, False)])
def test_a_temporary_file_of_another_machine_stays_for_a_day(path, age, stays):
    """Whether its process still lives cannot be seen from here."""
    other = path.with_name(".file+elsewhere+1+abc")
    other.touch()
    os.utime(other, times=(time.time() - age,) * 2)
    write_atomically(path, b"new")
    assert other.exists() == stays


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    longest = tmp_path / ("a" * 251 + ".png")
    write_atomically(longest, b"new")
    assert longest.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("number", "folder", "space"),
    [
        (errno.ENOSPC, True, True),
        (errno.EACCES, True, False),
        (errno.EROFS, True, False),
        (errno.EIO, False, False),
    ],
)
def test_an_error_names_the_file_leaves_the_old_one_and_gives_only_advice_that_fits(
    path, halfway, number, folder, space
):
    halfway(raising(OSError(number, "a reason")))
    with pytest.raises(OSError, match=r"cannot write .*file \(a reason\)") as info:
        write_atomically(path, b"new")
    said = str(info.value)
    assert info.value.errno == number
    assert all(name in said for name in ("another folder", "TVAE_DATA", "TVAE_RUNS")) == folder
    assert ("free some space" in said) == space
    assert path.read_bytes() == b"old"


def test_an_error_names_a_file_whose_folder_is_a_file(path):
    with pytest.raises(OSError, match=r"cannot write .*file/below \([^()]*\)$"):
        write_atomically(path / "below", b"new")


def hold(path: Path, seconds: float, ready) -> None:
    with locked(path):
        ready.set()
        time.sleep(seconds)


@needs_fork
@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_a_long_wait_for_a_lock_says_which_file_is_waited_for(
    tmp_path, monkeypatch, capfd, seconds
):
    monkeypatch.setattr(runtime, "SILENCE", 0.2)
    context = multiprocessing.get_context("fork")
    ready, lock = context.Event(), tmp_path / "a lock"
    other = context.Process(target=hold, args=(lock, seconds, ready))
    other.start()
    ready.wait()
    with locked(lock):
        pass
    other.join()
    said = capfd.readouterr().out
    assert said.count("\n") == (seconds > 0)
    if seconds:
        assert f"waiting for another process, which holds the lock {lock} (lsof shows" in said


def test_a_lock_is_free_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "lock"):
            raise KeyError


# Devices.


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this a machine with the given devices and unsets TVAE_DEVICE."""

    def with_(*devices: str) -> None:
        monkeypatch.delenv("TVAE_DEVICE", raising=False)
        for name, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
            monkeypatch.setattr(backend, "is_available", lambda name=name: name in devices)

    return with_


@pytest.mark.parametrize(
    ("devices", "picked"), [((), "cpu"), (("mps",), "mps"), (("mps", "cuda"), "cuda")]
)
def test_the_fastest_device_is_picked(machine, devices, picked):
    machine(*devices)
    assert pick_device().type == picked


def test_a_device_can_be_chosen_by_name(machine, monkeypatch):
    machine("cuda")
    monkeypatch.setenv("TVAE_DEVICE", "cpu")
    assert pick_device().type == "cpu"
    monkeypatch.setenv("TVAE_DEVICE", "mps")
    with pytest.raises(ValueError, match="TVAE_DEVICE is 'mps', but PyTorch finds only cuda, cpu"):
        pick_device()
    monkeypatch.setenv("TVAE_DEVICE", "gpu")
    with pytest.raises(ValueError, match=r"unknown device \(TVAE_DEVICE\) 'gpu'; known: cuda"):
        pick_device()


def test_apples_generator_is_restored_too(machine, monkeypatch):
    machine("mps")
    before, restored = torch.arange(3), []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: before)
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    with seeded(0):
        assert not restored
    assert restored == [before]
