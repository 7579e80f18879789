"""What the framework costs: python tools/benchmark_overhead.py [--pairs 30] [--weights FILE]

A request through `Session.ask` against the same reads, module calls and assembly written out by
hand, for a list of views and token cells that was written down beforehand. Both run by turns, and
the median of the ratios of the pairs counts. Both give the same masks, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import machine
import numpy as np

BAR = 1.05
CORES = 2
HEIGHT, WIDTH = 600, 800
PROMPT = "every airplane"
NEW_TOKENS = 8
"""About what "Here are 3 airplanes. [SEG]" takes; a longer text would hide the framework's part."""

machine.limit(CORES)

import torch  # noqa: E402  after the cores are chosen
from torch import Tensor, nn  # noqa: E402

from geomag import geometry, plugins, tokens, weights  # noqa: E402
from geomag.contracts import Cropper, LLMAdapter, Scene  # noqa: E402
from geomag.inference import DEFAULT_MODEL  # noqa: E402
from geomag.limits import Limits  # noqa: E402
from geomag.model import GeoMag  # noqa: E402
from geomag.scenes import open_scene  # noqa: E402
from geomag.session import Session  # noqa: E402
from geomag.values import (  # noqa: E402
    Conversation,
    Look,
    Plan,
    Prompt,
    Reading,
    Turn,
    View,
    VisualTokens,
)


class Pointing(nn.Module):
    """An adapter that adds two fixed queries to what it reads: untrained ones may give none."""

    def __init__(self, adapter: LLMAdapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.prompt_dim = adapter.prompt_dim
        self.query_dim = adapter.query_dim
        self.max_visual_tokens = adapter.max_visual_tokens
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("queries", torch.randn(2, adapter.query_dim, generator=generator))

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return self.adapter.read(conversations)

    def forward(self, tokens: object, prompts: object, answers: object) -> None:
        raise NotImplementedError("this benchmark does not train")

    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        reading = self.adapter.generate(tokens, prompt, max_new_tokens)
        return Reading(reading.text, self.queries, ())


class Witness(nn.Module):
    """A cropper that notes what the one inside was asked to rank, and after how many looks."""

    def __init__(self, cropper: Cropper) -> None:
        super().__init__()
        self.cropper = cropper
        self.rounds: list[tuple[int, Sequence[View]]] = []

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return self.cropper.relevance(looks, prompt)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        self.rounds.append((len(looks), candidates))
        return self.cropper.rank(looks, relevance, candidates, plan)


@dataclass(frozen=True, eq=False)
class Script:
    """All that the framework would decide: views in rounds with what was offered, cells of tokens
    with the weights that pool them."""

    plan: Plan
    rounds: list[tuple[Sequence[View], list[View]]]
    order: list[int]
    cells: list[Tensor]
    pools: list[Tensor]
    positions: list[Tensor]
    relevance: list[Tensor]


def main() -> int:
    """Prints the table; returns 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description="What GeoMag's frame costs.")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--weights", type=Path, help="a checkpoint (those shipped, or random ones)")
    options = parser.parse_args()
    pairs = options.pairs
    model, trained = build(options.weights)
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    scene = open_scene(cv2.GaussianBlur(picture, (0, 0), 3))
    rows, met = [], True
    for max_views in (0, 4, math.inf):
        ratios, framed, manual, views = compare(model, scene, max_views, pairs)
        ratio = statistics.median(ratios)
        met &= ratio <= BAR
        rows.append(
            (
                str(views),
                f"{statistics.median(framed) * 1000:.1f} ms",
                f"{statistics.median(manual) * 1000:.1f} ms",
                f"{ratio:.3f}",
                f"{np.quantile(ratios, 0.25):.3f} to {np.quantile(ratios, 0.75):.3f}",
                "yes" if ratio <= BAR else "no",
            )
        )
    head = ("views", "GeoMag", "by hand", "median ratio", "quartiles", f"at most {BAR}")
    print(machine.table(head, rows))
    print(f"\n{pairs} interleaved pairs a row, {WIDTH} x {HEIGHT} pixels, {NEW_TOKENS} new tokens,")
    print(f"two queries, {trained}; {machine.note()}")
    return 0 if met else 1


def build(checkpoint: Path | None) -> tuple[GeoMag, str]:
    torch.set_num_threads(CORES)
    torch.manual_seed(0)
    found = plugins.load(plugins.find("model", DEFAULT_MODEL))()
    model = GeoMag(**found["config"])
    trained = checkpoint or found["weights"]
    if trained is not None:
        weights.load(model, weights.read(trained), trained)
    pointing = GeoMag(
        vision_encoder=model.vision_encoder,
        llm_adapter=Pointing(model.llm_adapter),
        granularity_controller=model.granularity_controller,
        cropper=model.cropper,
        mask_head=model.mask_head,
        overview_side=model.overview_side,
        max_new_tokens=NEW_TOKENS,
    ).eval()
    return pointing, f"weights {trained.name}" if trained else "random weights"


def compare(
    model: GeoMag, scene: Scene, max_views: float, pairs: int
) -> tuple[list[float], list[float], list[float], int]:
    """Ratios of the pairs, seconds of both, and the views each looked at."""
    script = write_down(model, scene, max_views)
    check(model, scene, max_views, script)
    framed, manual = [], []
    for pair in range(pairs):
        for arm in (0, 1) if pair % 2 else (1, 0):
            began = time.perf_counter()
            if arm:
                Session(model, scene).ask(PROMPT, max_views=max_views)
            else:
                by_hand(model, scene, script)
            (framed if arm else manual).append(time.perf_counter() - began)
    ratios = [one / other for one, other in zip(framed, manual, strict=True)]
    return ratios, framed, manual, len(script.order)


@torch.inference_mode()
def write_down(model: GeoMag, scene: Scene, max_views: float) -> Script:
    """What the framework decides for this request."""
    model.cropper = witness = Witness(model.cropper)
    found = model.answer(scene, (Turn("user", PROMPT),), {}, Limits(max_views))
    model.cropper = witness.cropper
    plan, seen = found.plan, list(found.observation.looks)
    ends = [known for known, _ in witness.rounds[1:]] + [len(seen)]
    rounds = [
        (offered, [look.view for look in seen[known:end]])
        for (known, offered), end in zip(witness.rounds, ends, strict=False)
    ]
    order = geometry.raster_order(seen)
    looks = [seen[place] for place in order]
    opinions = [found.observation.relevance[place] for place in order]
    visual = tokens.adjust(looks, opinions, plan, model.llm_adapter.max_visual_tokens)
    return Script(
        plan,
        rounds,
        order,
        [item.cells for item in visual],
        [pool(item) for item in visual],
        [item.positions for item in visual],
        [item.relevance for item in visual],
    )


def pool(item: VisualTokens) -> Tensor:
    """`[T, cells of the grid]`: how much each cell of the coarsest level counts for each token."""
    height, width = item.look.features[-1].shape[-2:]
    share = nn.functional.adaptive_avg_pool2d(item.look.valid[None].float(), (height, width))[0]
    rows = []
    for top, left, bottom, right in item.cells.tolist():
        row = torch.zeros(height, width)
        row[top:bottom, left:right] = share[top:bottom, left:right]
        rows.append((row / row.sum()).flatten())
    return torch.stack(rows) if rows else torch.zeros(0, height * width)


@torch.inference_mode()
def by_hand(model: GeoMag, scene: Scene, script: Script) -> list[list[np.ndarray | None]]:
    """The request as a script would write it: for each look and query the mask in 255ths."""
    prompt = model.llm_adapter.read([(Turn("user", PROMPT),)])[0]
    model.granularity_controller.plan(prompt, scene.info)
    whole = geometry.overview(scene.info.size, model.overview_side)
    looks = [look_at(model, scene, whole)]
    judged = 0
    for offered, taken in script.rounds:
        relevance, judged = model.cropper.relevance(looks, prompt), len(looks)
        model.cropper.rank(looks, relevance, offered, script.plan)
        looks.extend([look_at(model, scene, view) for view in taken])
    if judged < len(looks):
        model.cropper.relevance(looks, prompt)
    looks = [looks[place] for place in script.order]
    visual = [
        VisualTokens(look, cells, weight @ look.features[-1].flatten(1).T, positions, relevance)
        for look, cells, weight, positions, relevance in zip(
            looks, script.cells, script.pools, script.positions, script.relevance, strict=True
        )
    ]
    reading = model.llm_adapter.generate(visual, prompt, model.max_new_tokens)
    drawn = []
    for look in looks:
        masks = model.mask_head([look], [reading.queries])[0]
        drawn.append([spread(one, look) for one in masks.logits.sigmoid().numpy()])
    return drawn


def look_at(model: GeoMag, scene: Scene, view: View) -> Look:
    read = scene.read(view, model.overview_side)
    levels = model.vision_encoder(read.pixels[None])
    return Look(view, read.pixels, read.valid, tuple(level[0] for level in levels))


def spread(probability: np.ndarray, look: Look) -> np.ndarray | None:
    side, size = look.valid.shape[0], look.view.size
    if probability.max() < 0.1:
        return None
    canvas = cv2.resize(probability, (side, side), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(canvas[: size.height, : size.width] * 255).astype(np.uint8)
    return levels if levels.max() >= 25.5 else None


def check(model: GeoMag, scene: Scene, max_views: float, script: Script) -> None:
    """Fails where the two do not come to the same masks, but for rounding."""
    answer = Session(model, scene).ask(PROMPT, max_views=max_views)
    hand = by_hand(model, scene, script)
    views = [answer.looks[place].view for place in script.order]
    for mask in answer.masks:
        tiles = {tile.view: tile.probability for tile in mask.tiles}
        for view, drawn in zip(views, hand, strict=True):
            framed, manual = tiles.get(view), drawn[mask.query]
            assert (framed is None) == (manual is None), "the two arms differ"
            if framed is not None and manual is not None:
                assert np.abs(framed.astype(int) - manual).max() <= 1, "the two arms differ"


if __name__ == "__main__":
    sys.exit(main())
