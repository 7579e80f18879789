"""Files of weights: what is refused, what survives, what a killed writer leaves."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model, save_file
from torch import nn

from geomag import weights
from geomag.errors import CheckpointError, OutputError


class Tied(nn.Module):
    """A table that is used twice, as language models do."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.table = nn.Embedding(6, width)
        self.head = nn.Linear(width, 6, bias=False)
        self.head.weight = self.table.weight


class Hostile:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "iter_10.pth"
    state = {f"model.{name}": tensor for name, tensor in Tied().state_dict().items()}
    torch.save({"state_dict": state, "meta": {"iter": 10}}, path)
    return path


def fails(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        weights.read(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message


def test_checkpoint_is_read_and_fits(checkpoint: Path) -> None:
    model = Tied()
    contents = weights.read(checkpoint)
    weights.load(model, contents, checkpoint)
    assert contents["meta"]["iter"] == 10
    assert torch.equal(model.table.weight, contents["state_dict"]["model.table.weight"])
    assert model.head.weight is model.table.weight


def test_missing_file_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "none.pth", "does not exist")
    fails(tmp_path, "is a folder")


def test_hostile_pickle_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name, hostile in (("zip", True), ("bare", False)):
        path = tmp_path / f"{name}.pth"
        contents = {"state_dict": {}, "meta": Hostile(mark)}
        if hostile:
            torch.save(contents, path)
            fails(path, "could run code")
        else:
            path.write_bytes(pickle.dumps(contents))
            fails(path, "no archive")
    assert not mark.exists()


def test_config_text_is_dropped(tmp_path: Path) -> None:
    """mmengine runs `meta["config"]` as Python when it resumes."""
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": {"config": "import os"}}, path)
    assert "config" not in weights.read(path)["meta"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(checkpoint: Path, share: float) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(len(whole) * share)])
    fails(checkpoint, "damaged")


def test_flipped_bit_is_refused(tmp_path: Path) -> None:
    """torch.load reads over it."""
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {"a": torch.zeros(100_000)}, "meta": {}}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["state_dict"]["a"].any()
    fails(path, "checksum")


@pytest.mark.parametrize("contents", [[1, 2], {"meta": {}}, {"state_dict": {"a": 1}}])
def test_other_contents_are_refused(tmp_path: Path, contents: object) -> None:
    path = tmp_path / "iter_1.pth"
    torch.save(contents, path)
    fails(path, "no state_dict")


def test_damaged_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    weights.save(path, Tied().state_dict(), {})
    path.write_bytes(path.read_bytes()[:-3])
    fails(path, "damaged")


def test_other_model_is_named_with_what_differs(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        weights.load(nn.ModuleDict({"table": nn.Linear(4, 6)}), weights.read(checkpoint), "x.pth")
    message = str(caught.value)
    assert "x.pth is of another model" in message
    assert "1 missing (table.bias)" in message
    assert "1 unknown (head.weight)" in message
    with pytest.raises(CheckpointError, match=r"2 of another shape .*\[6, 4\] instead of \[6, 5\]"):
        weights.load(Tied(5), weights.read(checkpoint), "x.pth")


def test_mismatch_leaves_the_model_alone(checkpoint: Path) -> None:
    model = Tied(5)
    before = model.table.weight.clone()
    with pytest.raises(CheckpointError):
        weights.load(model, weights.read(checkpoint), "x.pth")
    assert torch.equal(model.table.weight, before)


def test_shared_tensors_are_stored_once_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    source = Tied()
    weights.save(path, source.state_dict(), {"seed": "3"})
    assert path.stat().st_size < 2 * source.table.weight.numel() * 4 + 200
    contents = weights.read(path)
    assert contents["meta"] == {"seed": "3"}
    mine, theirs = Tied(), Tied()
    weights.load(mine, contents, path)
    load_model(theirs, path, strict=True)
    for model in (mine, theirs):
        assert torch.equal(model.table.weight, source.table.weight)


def test_plain_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert weights.read(path)["state_dict"]["a"].tolist() == [1, 1]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    path.write_text("old")
    with pytest.raises(TypeError, match="not int"), weights.replacing(path) as temporary:
        temporary.open("w").write(3)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        weights.replacing(tmp_path / "file" / "under"),
    ):
        pass


def test_newest_walks_back_to_one_that_is_whole(tmp_path: Path) -> None:
    for number in (9, 10, 20):
        contents = {"state_dict": {"a": torch.full((9,), float(number))}, "meta": {}}
        torch.save(contents, tmp_path / f"iter_{number}.pth")
    (tmp_path / "last_checkpoint").write_text("iter_20.pth")
    told: list[str] = []
    assert weights.newest(tmp_path, told.append) == tmp_path / "iter_20.pth"
    assert not told
    (tmp_path / "iter_20.pth").write_bytes(b"PK half")
    assert weights.newest(tmp_path, told.append) == tmp_path / "iter_10.pth"
    assert "iter_20.pth" in told[0]
    # A moved folder: the pointer names a place that is gone.
    (tmp_path / "last_checkpoint").write_text("gone/work/iter_9.pth")
    assert weights.newest(tmp_path, told.append) == tmp_path / "iter_9.pth"
    assert weights.newest(tmp_path / "empty", told.append) is None


WRITER = """
import sys, torch
from pathlib import Path
from geomag import weights
print("ready", flush=True)
count = 0
while True:
    count += 1
    with weights.replacing(Path(sys.argv[1])) as temporary:
        state = {"a": torch.full((1_000_000,), float(count))}
        torch.save({"state_dict": state, "meta": {"count": count}}, temporary)
"""


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {"a": torch.zeros(1_000_000)}, "meta": {"count": 0}}, path)
    rests = 0
    for delay in (0.0, 0.023):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(0.1 + delay)
            writer.send_signal(signal.SIGKILL)
        contents = weights.read(path)
        assert contents["state_dict"]["a"].eq(contents["meta"]["count"]).all()
        rests += len(list(tmp_path.glob(".*.part")))
    assert contents["meta"]["count"] > 0
    assert rests > 0  # at least one was killed in the middle of writing
