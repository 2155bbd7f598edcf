"""A checkout has the same bytes on every system, because sums of its files are stored."""

import hashlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUMS = ("tvae_core/shipped/runs/SHA256SUMS", "results/SHA256SUMS")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The last commit, cloned as git does on Windows by default: with other line ends in text."""
    folder = tmp_path_factory.mktemp("clone")
    options = ["--quiet", "--config", "core.autocrlf=true"]
    try:
        subprocess.run(["git", "clone", *options, ROOT, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout ({error})")
    return folder


@pytest.mark.parametrize("sums", SUMS)
def test_files_with_a_stored_sum_are_whole_in_a_clone_made_on_windows(clone, sums):
    lines = (clone / sums).read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 5
    for digest, name in map(str.split, lines):
        content = (clone / sums).with_name(name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name


def test_git_rewrites_no_file(clone):
    git = ["git", "ls-files", "--eol"]
    found = subprocess.run(git, cwd=clone, check=True, capture_output=True, text=True).stdout
    ends = {line.split("\t")[1]: line.split()[:2] for line in found.splitlines()}
    assert len(ends) > 200
    rewritten = {f for f, (kept, here) in ends.items() if kept[2:] != here[2:] or "crlf" in here}
    assert not rewritten
