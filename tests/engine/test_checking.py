"""What is misspelt in a config is named, with the nearest name, before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomag.engine import checking
from geomag.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
DRAWN = ROOT / "configs" / "tiny_drawn.py"


def test_shipped_configs_have_no_faults() -> None:
    for path in (ROOT / "configs").glob("*.py"):
        assert checking.read(path).model


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("train_cfg.max_iter", ["IterBasedTrainLoop takes no max_iter", "'max_iters'"]),
        ("trian_cfg.max_iters", ["there is no trian_cfg", "'train_cfg'"]),
        ("model.overview_sid", ["GeoMag takes no overview_sid", "'overview_side'"]),
        ("model.vision_encodr.type", ["there is no model.vision_encodr", "'vision_encoder'"]),
        ("optim_wrapper.optimizer.lrr", ["AdamW takes no lrr", "'lr'"]),
        ("default_hooks.picture.interval", ["no default_hooks.picture", "'pictures'"]),
        ("custom_hooks.7.seconds", ["there is no custom_hooks.7"]),
        ("test_evaluator.compares", ["MaskMetric takes no compares", "'compare'"]),
        ("train_dataloader.batchsize", ["train_dataloader takes no batchsize", "'batch_size'"]),
        ("trainable.max_view", ["trainable takes no max_view", "'max_views'"]),
        ("optim_wrapper.clip_grad.maxnorm", ["no optim_wrapper.clip_grad.maxnorm", "'max_norm'"]),
        ("lod_from", ["there is no lod_from", "'load_from'"]),
    ],
)
def test_misspelt_option_is_named_with_the_nearest(key: str, names: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        checking.read(DRAWN, {key: 3})
    for name in (*names, DRAWN.name):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("custom_hooks.0.seconds", 5),
        ("optim_wrapper.accumulative_counts", 2),
        ("load_from", "weights.safetensors"),
        ("control", "blanked"),
        ("train_dataloader.dataset.dataset.length", 3),
        ("trainable.max_views", 8),
        ("test_dataloader.num_batch_per_epoch", 3),
        ("optim_wrapper.clip_grad.norm_type", 1),
    ],
)
def test_options_that_have_a_place_are_taken(key: str, value: object) -> None:
    config = checking.read(DRAWN, {key: value})
    *above, last = key.split(".")
    part = config
    for name in above:
        part = part[int(name)] if name.isdecimal() else part[name]
    assert part[last] == value


def written(folder: Path, *lines: str) -> Path:
    path = folder / "config.py"
    # Any import makes it a config of the new style.
    path.write_text("\n".join(["from torch.optim import AdamW", *lines, ""]))
    return path


MODEL = "model = dict(vision_encoder=dict(type='tiny/encoder'))"


def fault(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        checking.read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    message = fault(
        written(
            tmp_path,
            "train_dataloder = dict(batch_size=2)",
            "optim_wrapper = dict(type='OptimWraper', optimizer=dict(type=AdamW, rate=1))",
            "custom_hooks = [dict(type='Schedule', second=3)]",
        )
    )
    for part in (
        "lacks model",
        "no train_dataloder. Nearest: 'train_dataloader'",
        "no 'OptimWraper'. Nearest: 'OptimWrapper'",
        "AdamW takes no rate",
        "Schedule takes no second. Nearest: 'seconds'",
    ):
        assert part in message


def test_missing_argument_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, MODEL, "train_cfg = dict(type='IterBasedTrainLoop')")
    assert "train_cfg: IterBasedTrainLoop needs max_iters" in fault(path)


def test_names_of_a_configs_own_are_let_be(tmp_path: Path) -> None:
    path = written(tmp_path, MODEL, "side = 256", "my_scenes = dict(root='here')")
    assert checking.read(path).side == 256


def test_wrong_import_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    lines = ["from torch.optim import AdamWW", MODEL, "optim_wrapper = dict(type=AdamWW)", ""]
    path.write_text("\n".join(lines))
    assert "AdamWW" in fault(path)


@pytest.mark.parametrize("text", ["model = dict(", "raise ValueError('no')", "1 / 0"])
def test_broken_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text)
    assert "cannot be read" in fault(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in fault(tmp_path / "none.py")
