"""What `geomag predict` does beyond one prompt about one scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geomag import cli, weights
from geomag.model import GeoMag
from tests.stand_ins import Shades
from tests.test_bad_input import CONFIG, MODEL, SLOTS, pixels

PROMPTS = '# what to find\n\nevery ship\n  every "big" airplane/plane  \nHow many?\n'


class Command:
    """A folder with images, and what the command said last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> str:
        self.status = cli.main(["predict", *arguments, *MODEL])
        printed, self.complaint = self.capsys.readouterr()
        return printed

    def refuses(self, *arguments: str, words: tuple[str, ...]) -> None:
        before = files()
        assert self(*arguments) == ""
        assert self.status == 2
        assert self.complaint.startswith("geomag: ")
        assert self.complaint.count("\n") == 1
        for word in words:
            assert word in self.complaint, self.complaint
        assert files() == before


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def saved(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.fixture
def predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        Path("many").mkdir(exist_ok=True)
        Image.fromarray(pixels()).save(f"many/{name}.png")
    Image.fromarray(pixels(60, 80)).save("one.png")
    Path("prompts.txt").write_text(PROMPTS)
    Path("config.py").write_text(CONFIG)
    model = GeoMag(**{slot: {"type": kind} for slot, kind in SLOTS.items()}, overview_side=8)
    weights.save("weights.safetensors", model.state_dict(), {})
    return Command(capsys)


def test_prompts_come_from_a_file(predict: Command) -> None:
    outputs = ("-o", "out/all.json", "-o", "out/all.geojson", "-o", "out/{scene}-{prompt}.png")
    printed = predict("one.png", "--prompts", "prompts.txt", *outputs).splitlines()
    assert (predict.status, predict.complaint) == (0, "")
    assert printed[0] == "every ship: Here."
    assert printed[2] == 'every "big" airplane/plane: Here.'
    answers = saved("out/all.json")
    assert [one["prompt"] for one in answers] == [
        "every ship",
        'every "big" airplane/plane',
        "How many?",
    ]
    found = {one["properties"]["prompt"] for one in saved("out/all.geojson")["features"]}
    assert found == {one["prompt"] for one in answers}
    pictures = {
        "out/one-1-every-ship.png",
        "out/one-2-every-big-airplane-plane.png",
        "out/one-3-how-many.png",
    }
    assert pictures < files()
    assert [line.removeprefix("wrote ") for line in printed[6:8]] == [
        "out/all.json",
        "out/all.geojson",
    ]


def test_one_prompt_in_a_file_is_one_prompt(predict: Command) -> None:
    Path("prompts.txt").write_bytes(b"\xef\xbb\xbfevery ship\r\n")
    assert predict("one.png", "--prompts", "prompts.txt", "-o", "a.json").startswith("Here.")
    assert saved("a.json")["prompt"] == "every ship"


def test_scenes_and_prompt_may_stand_between_options(predict: Command) -> None:
    predict("-o", "a.json", "one.png", "--max-views", "2", "every ship", "--max-tokens", "5")
    assert (predict.status, predict.complaint) == (0, "")
    cost = saved("a.json")["cost"]
    assert cost["views"] == 3
    assert 1 <= cost["tokens"] <= 5
    predict("one.png", "every ship", "-o", "b.json", "--max-views", "all", "--resolution", "4")
    assert {round(80 / look["size"][1]) for look in saved("b.json")["looks"][:1]} == {10}
    assert min(look["box"][2] - look["box"][0] for look in saved("b.json")["looks"]) >= 16


def test_a_region_is_the_scene(predict: Command) -> None:
    predict(
        "one.png", "every ship", "--region", "-5,10,40,50", "-o", "a.json", "--max-views", "all"
    )
    assert (predict.status, predict.complaint) == (0, "")
    crop = np.ascontiguousarray(pixels(60, 80)[10:50, :40])
    Image.fromarray(crop).save("crop.png")
    predict("crop.png", "every ship", "-o", "b.json", "--max-views", "all")
    one, other = saved("a.json"), saved("b.json")
    assert (one["scene"]["height"], one["scene"]["width"]) == (40, 40)
    assert one["masks"] == other["masks"]
    ring = [[0, 0], [40, 0], [0, 40], [0, 0]]
    Path("a.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    predict("one.png", "every ship", "--region", "a.geojson", "-o", "c.json", "--max-views", "all")
    assert saved("c.json")["masks"][0]["area"] < one["masks"][0]["area"]
    predict.refuses("one.png", "a ship", "--region", "90,0,99,9", words=("0,0,80,60", "outside"))


def test_a_dry_run_looks_at_nothing(predict: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shades, "forward", lambda self, pixels: pytest.fail("it looked"))
    before = files()
    printed = predict("one.png", "every ship", "--dry-run", "--max-tokens", "9", "-o", "a.json")
    assert predict.complaint == ""
    assert "one.png, 'every ship': pixel: overview 8 x 6 px at 10 scene px/px" in printed
    # 4 x 3 rungs of 4, 10 x 8 native, and the overview.
    assert "at most 87 views" in printed
    assert "9 tokens" in printed
    printed = predict("many", "--each", "--prompts", "prompts.txt", "--dry-run", "--shard", "1/2")
    assert len(printed.splitlines()) == 2 * 3 + 1
    assert "in all: 6 answers" in printed
    Path("many/b.png").write_text("no image")
    printed = predict("many", "--each", "every ship", "--dry-run")
    assert "many/b.png would fail" in printed
    assert files() == before


def test_looks_are_explained(predict: Command) -> None:
    printed = predict("one.png", "every ship", "--explain", "why.png", "--max-views", "4")
    assert printed.splitlines()[-1] == "wrote why.png"
    with Image.open("why.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
        assert len(picture.getcolors(1 << 24)) > 100
    predict("one.png", "--prompts", "prompts.txt", "--explain", "why/{prompt}.png")
    assert {"why/1-every-ship.png", "why/3-how-many.png"} < files()


def test_several_scenes_are_a_job(predict: Command) -> None:
    outputs = ("-o", "out/{scene}.json", "--explain", "why/{scene}.png")
    printed = predict("many/a.png", "one.png", "every ship", *outputs)
    assert predict.status == 0
    assert "2 answered, 0 answered before, 0 failed" in printed
    assert {"out/a.json", "out/one.json", "why/a.png", "why/one.png"} < files()
    assert "0 answered, 2 answered before" in predict(
        "many/a.png", "one.png", "every ship", *outputs
    )
    predict("many", "--each", "every ship", "-o", "shards/{scene}.json", "--shard", "2/2")
    assert [
        name for name in sorted(files()) if name.startswith("shards/") and "mani" not in name
    ] == ["shards/b.json"]
    predict("one.png", "every ship", "--each", "-o", "single/{scene}.json")
    assert "single/one.json" in files()


def test_a_scene_that_fails_fails_alone_and_shows_in_the_status(predict: Command) -> None:
    Path("many/b.png").write_bytes(Path("many/b.png").read_bytes()[:200])
    assert predict("many", "--each", "every ship", "-o", "out/{scene}.json") == ""
    assert predict.status == 2
    assert "many/b.png: the image is damaged" in predict.complaint
    assert "2 answered, 0 answered before, 1 failed" in predict.complaint
    assert {"out/a.json", "out/c.json"} < files()
    assert "out/b.json" not in files()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("one.png",), "expected a scene, then a prompt"),
        (("one.png", "many/a.png", "-o", "{scene}.json"), "is a file; expected a prompt"),
        (("lost.png", "every ship"), "lost.png"),
        (("https://a.b/c.tif", "every ship"), "only files on this machine"),
        (("one.png", "every [SEG]"), "contains [SEG]"),
        (("one.png", "every ship", "--prompts", "lost.txt"), "lost.txt"),
        (("one.png", "--prompts", "lost.txt"), "--prompts lost.txt: No such file"),
        (("one.png", "--prompts", "many"), "--prompts many"),
        (("one.png", "--prompts", "empty.txt"), "holds no prompt"),
        (("one.png", "--prompts", "one.png"), "not UTF-8"),
        (("one.png", "--prompts", "zeros.txt"), "not a text"),
        (("one.png", "--prompts", "marked.txt"), "marked.txt, line 3: the prompt contains [BOX]"),
        (("one.png", "--prompts", "prompts.txt", "-o", "a.png"), "put {prompt} into its name"),
        (("one.png", "--prompts", "prompts.txt", "-o", "folder"), "put {prompt} into its name"),
        (("one.png", "--prompts", "prompts.txt", "--explain", "a.png"), "{prompt}"),
        (("one.png", "x", "--region", "everywhere"), "not a file"),
        (("one.png", "x", "--region", ""), "--region"),
        (("one.png", "x", "--region", "1,2,3"), "four numbers"),
        (("one.png", "x", "--region", "1,2,3,nan"), "four numbers"),
        (("one.png", "x", "--region", "9,2,3,4"), "is empty"),
        (("one.png", "x", "--region", "1,2,3,x"), "not numbers"),
        (("one.png", "x", "--region", "config.py"), ".py is not read"),
        (("one.png", "x", "--region", "many"), "not a file"),
        (("one.png", "x", "--max-tokens", "0"), "--max-tokens '0'"),
        (("one.png", "x", "--max-tokens", "many"), "--max-tokens 'many'"),
        (("one.png", "x", "--max-views", "-3"), "--max-views '-3'"),
        (("one.png", "x", "--max-views", "1.5"), "--max-views '1.5'"),
        (("one.png", "x", "--resolution", "-1"), "--resolution '-1'"),
        (("one.png", "x", "--resolution", "nan"), "--resolution 'nan'"),
        (("one.png", "x", "--resolution", "fine"), "--resolution 'fine'"),
        (("one.png", "x", "--threshold", "high"), "--threshold 'high'"),
        (("one.png", "x", "--shard", "0/2", "-o", "{scene}.json"), "--shard '0/2'"),
        (("one.png", "x", "--shard", "3", "-o", "{scene}.json"), "--shard '3'"),
        (("one.png", "x", "--explain", "a.jpg"), "ends in .png"),
        (("one.png", "x", "-o", "a.json", "-o", "./a.json"), "written twice"),
        (("one.png", "x", "-o", "a.png", "--explain", "a.png"), "written twice"),
        (("one.png", "x", "-o", "{widht}.json"), "{widht} stands for nothing"),
        (("one.png", "x", "-o", "one.png"), "is the scene"),
        (("one.png", "x", "-o", "config.py/a.json"), "is no folder"),
        (("one.png", "x", "-o", "folder.json"), "is a folder"),
        (("many", "x", "--each"), "several scenes need an output"),
        (("many", "x", "--each", "-o", "a.json"), "put {scene} into it"),
        (("many", "x", "--each", "-o", "many/{scene}x.png"), "lies among the scenes"),
        (("many", "x", "-o", "a.json"), "--each"),
        (("many", "one.png", "x", "-o", "{scene}.json", "--each", "--explain", "w.png"), "w.png"),
    ],
)
def test_what_makes_no_sense_is_said(
    predict: Command, arguments: tuple[str, ...], words: str
) -> None:
    Path("empty.txt").write_text("# nothing\n\n")
    Path("zeros.txt").write_bytes(bytes(9))
    Path("marked.txt").write_text("every ship\n# why\nevery [BOX]\n")
    Path("folder.json").mkdir()
    predict.refuses(*arguments, words=(words,))


def test_all_that_is_wrong_is_said_at_once_and_before_a_model_is_loaded(
    predict: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomag.inference.Predictor.from_config", lambda *_: pytest.fail("loaded"))
    wrong = ("--max-views", "x", "--max-tokens", "0", "--resolution", "nan", "--threshold", "7")
    wrong += ("--region", "1,2", "--device", "abacus", "-o", "a.docx", "-o", "config.py/b.json")
    named = ("lost.png", "prompt is empty", "'x'", "'0'", "'nan'", "'7'", "'1,2'", "abacus")
    predict.refuses("lost.png", " ", *wrong, words=(*named, "a.docx", "config.py/b.json"))


def test_classes_divide_a_scene(predict: Command) -> None:
    printed = predict("one.png", "--classes", "ship,airplane", "-o", "map.json", "-o", "map.png")
    assert (predict.status, predict.complaint) == (0, "")
    assert [line.split(":")[0] for line in printed.splitlines()[:2]] == ["ship", "airplane"]
    assert "wrote map.json\nwrote map.png\n" in printed
    assert Path("map.png").stat().st_size
    dry = predict("one.png", "--classes", "ship,airplane", "--dry-run")
    assert "'every airplane': " in dry
    wrong = ("--classes", "ship,", "--prompts", "prompts.txt", "--explain", "why.png")
    predict.refuses(
        *("one.png", *wrong),
        words=("number 2, ''", "--prompts and --classes ask for different", "--explain shows one"),
    )
    predict.refuses("one.png", "many/a.png", "--classes", "ship", words=("a map of one scene",))


def test_an_overlap_takes_more_views(predict: Command) -> None:
    views = []
    for overlap in ("0", "2"):
        outputs = ("--overlap", overlap, "--max-views", "all", "-o", f"{overlap}.json")
        predict("one.png", "every ship", *outputs)
        assert (predict.status, predict.complaint) == (0, "")
        views.append(saved(f"{overlap}.json")["cost"]["views"])
    assert views[0] < views[1]
    predict.refuses(
        "one.png", "every ship", "--overlap", "3", words=("--overlap '3': expected an",)
    )
    predict.refuses(
        "one.png", "every ship", "--overlap", "4", words=("below half of a view's side",)
    )
