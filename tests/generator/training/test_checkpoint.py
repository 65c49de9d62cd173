from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from generator.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from generator.training.errors import CheckpointNotSaved, InvalidCheckpoint

STATE = TrainingState(step=3, seconds=1.5, counters={"examples": 9.0}, best=0.25, fingerprint="abc")


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True)


def stepped() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    optimizer = adamw(model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def test_model_moments_and_state_come_back(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = stepped()
    save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    other, _ = stepped()
    other_optimizer = adamw(other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(float(parameter.requires_grad) + 1)  # spoil what the checkpoint shall mend
    assert load_checkpoint(path, model=other, optimizer=other_optimizer) == STATE
    for one, two in ((model, optimizer), (other, other_optimizer)):
        one(torch.full((1, 3), 2.0)).sum().backward()
        two.step()
    assert torch.equal(model[1].weight, other[1].weight)
    assert torch.equal(model[0].bias, other[0].bias)
    with safe_open(path, framework="pt") as file:
        assert "model/0.bias" not in file.keys()  # noqa: SIM118 - frozen, so not training's to keep


def test_a_failed_write_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = stepped()
    save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    before = path.read_bytes()

    def full(tensors: object, file: Path, metadata: object = None) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("generator.training.checkpoint.save_file", full)
    with pytest.raises(CheckpointNotSaved, match="No space"):
        save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_is_an_error_of_its_own_and_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = stepped()
    save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # writing more fails as it does without room
    try:
        with pytest.raises(CheckpointNotSaved, match="Make room"):
            save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_damaged_foreign_and_mismatched_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = stepped()
    save_checkpoint(path, model=model, optimizer=optimizer, state=STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(InvalidCheckpoint, match="cannot be read"):
        load_checkpoint(path, model=model, optimizer=None)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InvalidCheckpoint, match="not written by this trainer"):
        load_checkpoint(path, model=model, optimizer=None)
    path.write_bytes(whole)
    with pytest.raises(InvalidCheckpoint, match="another model"):
        load_checkpoint(path, model=nn.Linear(3, 4), optimizer=None)
    wider = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    wider[0].bias.requires_grad_(False)
    with pytest.raises(InvalidCheckpoint, match="another shape"):
        load_checkpoint(path, model=wider, optimizer=None)
