"""Two processes under torchrun align a folder as one, and average their gradients."""

import json
import os
import subprocess
import sys

import torch
from PIL import Image

from tvae_core import data, moved
from tvae_core.moved import Moves
from tvae_core.own import training

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TORCHRUN += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]

SCRIPT = """
import sys
import torch
from tvae_core import data, own
from tvae_core.own import shards, training

with shards.together() as rank:
    model = training.new_model("similarity", (6, 8), 2, 8, seed=rank)  # the first one's counts
    images = data.from_tensor(torch.load(sys.argv[1]))
    together = shards.shared(model)  # as long as it lives, gradients are averaged
    particles = together.particles(shards.share(images).x)
    # The KL of u is exact, so that draws do not matter; all other parameters count 0 times.
    _, kl_u = model.split(particles.kl)
    (kl_u.sum(-1) + 0 * particles.log_lik + 0 * particles.kl.sum(-1)).mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.save([gradient, shards.of_first(rank)], f"{sys.argv[1]}.{rank}")
"""


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*TORCHRUN, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_gradient_of_two_processes_is_that_of_all_images(tmp_path):
    x = (torch.rand(8, 1, 6, 8) * 255).round() / 255
    path, script = tmp_path / "x.pt", tmp_path / "script.py"
    torch.save(x, path)
    script.write_text(SCRIPT, encoding="utf-8")
    torchrun(str(script), str(path))
    model = training.new_model("similarity", (6, 8), 2, 8, seed=0)
    model.split(model.particles(data.from_tensor(x).x).kl)[1].sum(-1).mean().backward()
    whole = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    for rank in (0, 1):
        gradient, of_first = torch.load(f"{path}.{rank}")
        assert of_first == 0
        torch.testing.assert_close(gradient, torch.cat([g.flatten() for g in whole]))


def test_two_processes_align_a_folder_and_resume(tmp_path):
    bars = torch.zeros(27, 1, 10, 12)
    bars[:, :, 2:8, 5:7] = 1
    (tmp_path / "in").mkdir()
    for i, x in enumerate(moved.moved(data.from_tensor(bars), Moves(degrees=40)).pixels):
        Image.fromarray(x[0].numpy()).save(tmp_path / "in" / f"{i}.png")
    command = ["-m", "tvae_core.align", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    command += ["--epochs", "4", "--latents", "2", "--hidden", "8"]
    done = torchrun(*command)
    assert done.stdout.count("epoch   4:") == 1  # one process prints
    assert len((tmp_path / "out" / "poses.csv").read_text(encoding="utf-8").splitlines()) == 28
    before = json.loads((tmp_path / "out" / "record.json").read_bytes())
    again = torchrun(*command)
    assert "epoch   4:" not in again.stdout
    after = json.loads((tmp_path / "out" / "record.json").read_bytes())
    assert after["history"] == before["history"]
    first, second = (
        torch.load(tmp_path / "out" / "training" / f"checkpoint{of}.pt") for of in ("", "-1")
    )
    assert [row["held_out"] for row in first["history"]] == [
        row["held_out"] for row in second["history"]
    ]
    for name, value in first["model"].items():
        assert value.equal(second["model"][name]), name
