"""What a mask head promises.

Letters: K queries, M masks, D query width, h' w' cells of a mask, B looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import geometry
from ..contracts import Encoding, Matching
from ..values import Box, Look, LookMasks, MaskTargets, Size, View
from .checks import expect, expect_none, needs, promise
from .comparison import CLOSE, EXACT, differences, distance, quarters
from .exercise import mask_outputs
from .samples import Samples, repainted
from .subject import Subject

COUNTS = (2, 0, 3, 1)
"""Queries of the four looks of `Samples.looks`."""


@promise("mask_head")
def check_one_result_a_look(build: Subject) -> None:
    """It returns one `LookMasks` for each look, also where a look has no query."""
    looks, _, masks = _drawn(build)
    expect(len(masks) == len(looks), f"{len(masks)} results for {len(looks)} looks")
    odd = {type(item).__name__ for item in masks if not isinstance(item, LookMasks)}
    expect(not odd, f"a result is a {', '.join(odd)}, expected LookMasks")


@promise("mask_head")
def check_masks_queries_and_scores_agree(build: Subject) -> None:
    """`logits [M, h', w']`, `query [M]` and `score [M]` count the same masks."""
    for item in _drawn(build)[2]:
        shapes = [list(item.logits.shape), list(item.query.shape), list(item.score.shape)]
        count = len(item.query)
        expect(
            len(shapes[0]) == 3 and shapes[0][0] == count and shapes[1:] == [[count], [count]],
            "logits {}, query {} and score {} are not [M, h', w'], [M] and [M]".format(*shapes),
        )


@promise("mask_head")
def check_no_query_no_mask(build: Subject) -> None:
    """A look without queries gets no masks, beside others and alone."""
    head = build()
    samples = build.samples(head)
    looks = samples.looks(head)
    for some, counts in ((looks, COUNTS), (looks[:1], (0,))):
        for count, item in zip(counts, head(some, samples.queries(*counts)), strict=True):
            expect(count or len(item.query) == 0, f"{len(item.query)} masks for no query")


@promise("mask_head")
def check_query_is_one_of_the_looks(build: Subject) -> None:
    """`query` says by integers below K which query each mask answers; a head without `loss` has
    exactly one mask a query, in order."""
    head = build()
    samples = build.samples(head)
    masks = head(samples.looks(head), samples.queries(*COUNTS))
    for count, item in zip(COUNTS, masks, strict=True):
        named = item.query.tolist()
        whole = not item.query.is_floating_point()
        expect(whole, f"query is {item.query.dtype}, expected integers")
        expect(all(0 <= place < count for place in named), f"query {named} of {count} queries")
        expect(
            isinstance(head, Matching) or named == list(range(count)),
            f"query is {named}, a head without loss() has one mask for each of {count}, in order",
        )


@promise("mask_head")
def check_masks_cover_the_canvas(build: Subject) -> None:
    """Masks lie over the whole canvas, padding included, at some stride."""
    looks, _, masks = _drawn(build)
    for look, item in zip(looks, masks, strict=True):
        (height, width), canvas = item.logits.shape[-2:], look.pixels.shape[-2:]
        expect(
            height
            and width
            and height * canvas[1] == width * canvas[0]
            and canvas[0] % height == 0,
            f"logits of {height} x {width} do not cover a canvas of {canvas[0]} x {canvas[1]} at a "
            "whole stride",
        )


@promise("mask_head")
def check_masks_lie_where_the_look_does(build: Subject) -> None:
    """What changes in one quarter of a look changes masks most in that quarter: neither turned,
    mirrored nor shifted."""
    head = build()
    samples = build.samples(head)
    # A native view fills its canvas.
    look = samples.look(geometry.tiles(samples.scene, samples.side, 1)[0], head)
    queries = samples.queries(4)
    old = head([look], queries)[0].logits
    for top, left in ((True, False), (False, True)):
        total: dict[tuple[bool, bool], float] = {}
        for seed in range(4):
            new = head([repainted(look, top, left, seed, head)], queries)[0].logits
            needs(new.shape == old.shape, "the number of its masks depends on the look")
            for quarter, change in quarters(new - old).items():
                total[quarter] = total.get(quarter, 0.0) + change
        expect(max(total.values()) > 0, "masks do not depend on what the look shows")
        expect(
            max(total, key=total.__getitem__) == (top, left),
            "masks change most elsewhere than the look did",
        )


@promise("mask_head")
def check_masks_answer_their_query(build: Subject) -> None:
    """When one query changes, the masks that say they answer it change most."""
    head = build()
    samples = build.samples(head)
    look = samples.looks(head)[0]
    queries = samples.queries(3)[0]
    old = head([look], [queries])[0]
    for place in range(len(queries)):
        other = queries.clone()
        other[place] = samples.queries(1)[0][0]
        new = head([look], [other])[0]
        needs(torch.equal(old.query, new.query), "the number of its masks depends on the query")
        moved = (new.logits - old.logits).flatten(1).abs().mean(1)
        own, others = moved[old.query == place], moved[old.query != place]
        expect(
            not len(own) or float(own.max()) > 0, f"the masks of query {place} do not depend on it"
        )
        expect(
            not len(own) or not len(others) or own.mean() > others.mean(),
            f"query {place} changes the masks of others more than its own",
        )


@promise("mask_head")
def check_score_is_a_probability(build: Subject) -> None:
    """A score is in [0, 1]."""
    for item in _drawn(build)[2]:
        wrong = item.score[~((item.score >= 0) & (item.score <= 1))]
        expect(
            not len(wrong), f"{len(wrong)} scores are not in [0, 1], as {float(wrong[:1].sum())}"
        )


@promise("mask_head")
def check_looks_do_not_mix(build: Subject) -> None:
    """The masks of a look do not depend on the other looks and queries of its batch, in training
    neither."""
    for mode in (False, True):
        head = build().train(mode)
        samples = build.samples(head)
        looks, queries = samples.looks(head), samples.queries(*COUNTS)
        others, other_queries = samples.looks(head), samples.queries(*COUNTS)
        together = _call(head, looks, queries)
        for place in range(len(looks)):
            beside, asked = list(others), list(other_queries)
            beside[place], asked[place] = looks[place], queries[place]
            found = differences(
                mask_outputs([together[place]]),
                mask_outputs([_call(head, beside, asked)[place]]),
                CLOSE,
            )
            expect_none([f"beside others, {problem} of look {place}" for problem in found])


@promise("mask_head")
def check_order_of_looks_does_not_matter(build: Subject) -> None:
    """Looks handed over in another order get the same masks."""
    looks, queries, masks = _drawn(build)
    turned = list(reversed(build()(looks[::-1], queries[::-1])))
    expect_none(differences(mask_outputs(masks), mask_outputs(turned), CLOSE))


@promise("mask_head")
def check_any_look(build: Subject) -> None:
    """A look at one pixel, or without any data, has finite masks too."""
    head = build()
    samples = build.samples(head)
    dot = samples.look(View(Box(0, 0, 1, 1), Size(1, 1), Size(1, 1)), head)
    nothing = samples.look(samples.views()[0], head)
    nothing.valid.zero_()
    for item in head([dot, nothing], samples.queries(2, 2)):
        expect(item.logits.isfinite().all(), "logits are not finite")
        expect(item.score.isfinite().all(), "scores are not finite")


@promise("mask_head")
def check_gradient_reaches_queries(build: Subject) -> None:
    """Masks teach the language model: their gradient reaches every query they answer."""
    head = build().train()
    samples = build.samples(head)
    queries = [item.requires_grad_() for item in samples.queries(2, 3)]
    looks = samples.looks(head)[:2]
    with torch.enable_grad():
        if isinstance(head, Matching):
            total = head.loss(looks, queries, samples.mask_targets(2, 3)).sum()
        else:
            total = torch.stack([item.logits.sum() for item in head(looks, queries)]).sum()
        expect(total.requires_grad, "masks have no gradient")
        total.backward()
    cold = [item for item in queries if item.grad is None or not item.grad.any()]
    expect(not cold, f"no gradient reaches the queries of {len(cold)} of {len(queries)} looks")


@promise("mask_head")
def check_loss_of_each_look(build: Subject) -> None:
    """A head that matches has one finite loss for each look, `[B]`, also without targets or
    queries."""
    head, samples = _matching(build)
    looks, queries = samples.looks(head), samples.queries(*COUNTS)
    loss = head.loss(looks, queries, samples.mask_targets(2, 0, 3, 1))
    expect(loss.shape == (len(looks),), f"loss is {list(loss.shape)}, expected [{len(looks)}]")
    expect(loss.isfinite().all(), "loss is not finite")
    nothing = samples.mask_targets(0, 0, 0, 0)
    expect(
        head.loss(looks, queries, nothing).isfinite().all(), "loss without targets is not finite"
    )


@promise("mask_head")
def check_losses_do_not_mix(build: Subject) -> None:
    """The loss of a look does not depend on the other looks of its batch."""
    head, samples = _matching(build)
    looks, queries = samples.looks(head), samples.queries(*COUNTS)
    targets: list[MaskTargets] = samples.mask_targets(*COUNTS)
    together: Tensor = head.loss(looks, queries, targets)
    for place in range(len(looks)):
        part = slice(place, place + 1)
        alone = head.loss(looks[part], queries[part], targets[part])
        expect(
            distance(alone, together[part]) <= CLOSE, f"the loss of look {place} differs when alone"
        )


@promise("mask_head")
def check_encoded_images_do_not_mix(build: Subject) -> None:
    """A head with an image encoder of its own returns tensors of one entry an image, which does not
    depend on the others."""
    head = build()
    needs(isinstance(head, Encoding), "it has no encode()")
    samples = build.samples(head)
    pixels = samples.pixels(3, samples.side, samples.side)
    encoded = head.encode(pixels)
    expect(isinstance(encoded, tuple), f"it returns a {type(encoded).__name__}, expected a tuple")
    counts = [len(part) for part in encoded]
    expect(all(count == 3 for count in counts), f"{counts} entries for 3 images")
    others = 1 - pixels
    others[1] = pixels[1]
    for old, new in zip(encoded, head.encode(others), strict=True):
        expect(distance(new[1], old[1]) <= EXACT, "an image's entry depends on others")


def _drawn(build: Subject) -> tuple[list[Look], list[Tensor], list[LookMasks]]:
    head = build()
    samples = build.samples(head)
    looks, queries = samples.looks(head), samples.queries(*COUNTS)
    return looks, queries, head(looks, queries)


def _matching(build: Subject) -> tuple[Any, Samples]:
    head = build()
    needs(isinstance(head, Matching), "it leaves matching to the core: it has no loss()")
    return head, build.samples(head)


def _call(head: Any, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
    """With the same random numbers every time: dropout is not what is checked here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        masks: list[LookMasks] = head(looks, queries)
    return masks
