"""Several processes that train as one: shares, files and gradients.

slow/test_own_torchrun.py starts two.
"""

import pytest
import torch
import torch.distributed as dist

from tvae_core import data
from tvae_core.own import shards, training
from tvae_core.runtime import seeded

SIZE = (6, 8)


@pytest.fixture
def second_of_three(monkeypatch):
    monkeypatch.setattr(shards, "place", lambda: (1, 3))


def images(n: int) -> data.Images:
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, *SIZE)
    return data.Images(pixels, torch.arange(n), "numbered")


def test_alone_nothing_changes(monkeypatch, tmp_path):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model = training.new_model("rotation", SIZE, 2, 8)
    with shards.together() as rank:
        assert rank == 0
        assert shards.place() == (0, 1)
        assert not dist.is_initialized()
    assert shards.shared(model) is model
    assert shards.share(images(7)).labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert shards.of_first("a") == "a"
    assert shards.checkpoint(tmp_path / "checkpoint.pt") == tmp_path / "checkpoint.pt"


def test_each_process_has_as_many_images_and_no_image_is_there_twice(monkeypatch):
    found = []
    for rank in range(3):
        monkeypatch.setattr(shards, "place", lambda rank=rank: (rank, 3))
        found.append(shards.share(images(11)).labels.tolist())
    assert found == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_all_start_from_the_checkpoint_of_the_first(second_of_three, tmp_path):
    path, own = tmp_path / "checkpoint.pt", tmp_path / "checkpoint-1.pt"
    own.write_bytes(b"one epoch more")
    assert shards.checkpoint(path) == own
    assert not own.exists()
    path.write_bytes(b"first")
    assert shards.checkpoint(path) == own
    assert own.read_bytes() == b"first"
    assert shards.checkpoint(None) is None


def test_a_shared_model_draws_and_learns_like_the_model(monkeypatch, tmp_path):
    model = training.new_model("similarity", SIZE, 2, 8)
    x = torch.rand(5, 1, *SIZE)

    def gradient(of) -> list[torch.Tensor]:
        with seeded(3):
            loss = -training.pose_first(model)(of.particles(x, 2)).mean()
        loss.backward()
        found = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        return found

    alone = gradient(model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        monkeypatch.setattr(shards, "place", lambda: (0, 2))
        together = shards.shared(model)
        assert together is not model
        found = gradient(together)
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(found, alone)
    assert [*together.state_dict()] == [f"model.{name}" for name in model.state_dict()]
    assert together.split(torch.zeros(1, 6))[0].shape == (1, 2)
