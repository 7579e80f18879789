from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

from geomag import Predictor, plugins, weights
from geomag.errors import CheckpointError, ConfigError, GeoMagError, SceneError
from geomag.geometry import overview
from geomag.hookspecs import SLOT_KINDS
from geomag.model import GeoMag
from geomag.values import Size
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds

SIDE = 8
SIZE = Size(60, 45)
CONFIG: dict[str, Any] = {
    "vision_encoder": {"type": Shades},
    "llm_adapter": {"type": Parrot},
    "granularity_controller": {"type": Closest},
    "cropper": {"type": Moody},
    "mask_head": {"type": Thresholds},
    "overview_side": SIDE,
}


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(GeoMag(**CONFIG))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    weights.save(path, GeoMag(**CONFIG).state_dict(), {})
    return path


def errs(kind: type[GeoMagError], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_an_answer_has_what_a_script_needs(predictor: Predictor) -> None:
    scene = np.random.default_rng(0).integers(0, 255, (60, 45, 3), dtype=np.uint8)
    answer = predictor.open(scene, resolution=0.5).ask("every airplane", max_views=5)
    assert answer.text == "Here."
    assert len(answer.masks) == len(answer.scores) == 1
    assert answer.masks[0].to_dense().shape == (60, 45)
    assert answer.masks[0].to_rle()["size"] == [60, 45]
    assert answer.looks[0].view == overview(SIZE, SIDE)
    assert len(answer.looks) == answer.cost.views == 6
    assert all(0 <= seen.relevance <= 1 for seen in answer.looks if seen.relevance is not None)
    assert answer.scene.info.resolution == 0.5
    assert answer.refused == answer.masks[0].empty


def test_what_is_no_scene_is_said_in_a_line(predictor: Predictor) -> None:
    errs(SceneError, "no such file", lambda: predictor.open("nowhere.png"))
    errs(SceneError, "expected", lambda: predictor.open(np.zeros((3, 4, 7), np.uint8)))


def test_weights_come_from_safetensors_and_from_training_checkpoints(
    checkpoint: Path, tmp_path: Path
) -> None:
    state = {"vision_encoder.gain": torch.tensor([0.5]), "llm_adapter.weight": torch.tensor([2.0])}
    weights.save(checkpoint, {key: value.half() for key, value in state.items()}, {})
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in state.items()}, "meta": {}},
        tmp_path / "iter_3.pth",
    )
    for path in (checkpoint, str(tmp_path / "iter_3.pth")):
        predictor = Predictor.from_config(CONFIG, path)
        assert predictor.model.vision_encoder.gain.item() == 0.5
        assert predictor.model.dtype == torch.float32
        assert not predictor.model.training
    assert Predictor.from_config(CONFIG, checkpoint, dtype="float64").model.dtype == torch.float64


def test_a_config_is_a_file_or_a_mapping_whole_or_not(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(
        "from geomag.model import GeoMag\n"
        "from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds\n"
        "model = dict(type=GeoMag, vision_encoder=dict(type=Shades), llm_adapter=dict(type=Parrot),"
        " granularity_controller=dict(type=Closest), cropper=dict(type=Moody),"
        f" mask_head=dict(type=Thresholds), overview_side={SIDE})\n"
        "train_cfg = dict(max_iters=3)\n"
    )
    for config in (
        path,
        str(path),
        Config.fromfile(path),
        CONFIG,
        {"model": CONFIG, "train_cfg": {}},
        {"model": {"type": "geomag.model.GeoMag", **CONFIG}},  # as a run writes its config down
    ):
        predictor = Predictor.from_config(config, checkpoint)
        assert isinstance(predictor.model.cropper, Moody)
        assert predictor.model.overview_side == SIDE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = dict(", "config .* cannot be read"),
        ("import nobodys_library\nmodel = dict(type=nobodys_library.Net)", "nobodys_library"),
        ("seed = 0", "its model is None, expected a dict"),
        ("model = dict(cropper=dict())", "vision_encoder is missing"),
        ("model = 3", "its model is 3"),
        ("model = dict(mask_haed=dict())", "unknown argument 'mask_haed'. Nearest: 'mask_head'"),
        ("model = dict(type='Mask2Former')", "of type Mask2Former, expected GeoMag"),
    ],
)
def test_a_config_that_describes_no_model_is_named(
    checkpoint: Path, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "config.py"
    path.write_text(text)
    errs(ConfigError, words, lambda: Predictor.from_config(path, checkpoint))
    errs(ConfigError, "no such file", lambda: Predictor.from_config("lost.py", checkpoint))


def test_weights_that_do_not_fit_are_named(checkpoint: Path, tmp_path: Path) -> None:
    errs(CheckpointError, "lost", lambda: Predictor.from_config(CONFIG, "lost.safetensors"))
    weights.save(checkpoint, {"vision_encoder.gain": torch.zeros(4), "x.y": torch.zeros(1)}, {})
    errs(
        CheckpointError,
        r"1 missing \(llm_adapter.weight\); 1 unknown \(x.y\); 1 of another shape",
        lambda: Predictor.from_config(CONFIG, checkpoint),
    )
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3])
    errs(CheckpointError, "damaged", lambda: Predictor.from_config(CONFIG, checkpoint))


def test_what_the_machine_lacks_is_named() -> None:
    model = GeoMag(**CONFIG)
    errs(ConfigError, "device gpu cannot be used", lambda: Predictor(model, device="gpu"))
    errs(ConfigError, "dtype 'int8'", lambda: Predictor(model, dtype="int8"))
    errs(ConfigError, "dtype 'load'", lambda: Predictor(model, dtype="load"))
    errs(ConfigError, "threshold 1.5", lambda: Predictor(model, threshold=1.5))
    if not torch.cuda.is_available():
        errs(ConfigError, "device cuda:0", lambda: Predictor(model, device="cuda:0"))


def tiny() -> dict[str, Any]:
    """The smallest instances that `plugins/tiny` declares of what its model is made of."""
    (plugin,) = (found for found in plugins.inventory().plugins if found.name == "tiny")
    model = plugins.load(plugins.find("model", "tiny/default"))()["config"]
    for kind in SLOT_KINDS:
        name = model[kind]["type"].partition("/")[2]
        for component in plugin.components:
            if (component.kind, component.name) == (kind, name):
                model[kind] = model[kind] | component.tiny
    return model | {"overview_side": 64}


def test_the_default_model_is_found_through_the_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    path = tmp_path / "weights.safetensors"
    state = GeoMag(**config).state_dict()
    halves = {key: part.half() if part.is_floating_point() else part for key, part in state.items()}
    weights.save(path, halves, {})
    for file in (None, path):
        monkeypatch.setattr(
            "geomag_tiny.default.model", lambda file=file: {"config": config, "weights": file}
        )
        if file is None:
            errs(CheckpointError, "tiny/default .* comes without weights", Predictor.default)
    predictor = Predictor.default(device="cpu", threshold=0.3)
    scene = np.random.default_rng(0).integers(0, 255, (150, 100, 3), dtype=np.uint8)
    answers = [predictor.open(scene).ask("every airplane", max_views=math.inf) for _ in range(2)]
    assert answers[0].cost.views == 7
    assert answers[0].text == answers[1].text
    assert all(mask.threshold == 0.3 for mask in answers[0].masks)
    for first, second in zip(answers[0].masks, answers[1].masks, strict=True):
        assert np.array_equal(first.to_dense(), second.to_dense())
