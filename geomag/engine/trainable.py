"""A GeoMag as mmengine's Runner wants it: batches in, losses or test outcomes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..contracts import Binding, Scene
from ..data.samples import LabelledSample
from ..errors import ConfigError, GeoMagError
from ..evaluation.outcomes import Examined, Outcome, compare
from ..hookspecs import SLOT_KINDS
from ..limits import AS_PLANNED, Limits
from ..model import Findings, GeoMag, LookCache
from ..values import Conversation, Exchange, Look, TrainingSample, View

Samples = Sequence[TrainingSample | LabelledSample]


class ToDevice(nn.Module):
    """Brings the tensors of training samples to the model's device; scenes stay where they are."""

    def __init__(self) -> None:
        super().__init__()
        self._place: Tensor
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def forward(self, data: Mapping[str, Samples], training: bool = False) -> dict[str, list[Any]]:
        return {"samples": [self._moved(sample) for sample in data["samples"]]}

    def _moved(self, sample: TrainingSample | LabelledSample) -> TrainingSample | LabelledSample:
        if not isinstance(sample, TrainingSample):
            return sample
        device = self._place.device  # a buffer follows the model
        return replace(
            sample,
            pixels=sample.pixels.to(device, non_blocking=True),
            valid=sample.valid.to(device, non_blocking=True),
            masks=sample.masks.to(device, non_blocking=True),
        )


@runtime_checkable
class Answering(Protocol):
    """What trains and tests as a GeoMag does, whatever it is made of; it is a module too."""

    def loss(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """The losses of one step, by name."""
        ...

    def answer(
        self,
        scene: Scene,
        conversation: Conversation,
        looks: LookCache,
        limits: Limits = AS_PLANNED,
        threshold: float = 0.5,
    ) -> Findings:
        """As `GeoMag.answer`."""
        ...


@MODELS.register_module()
class Trainable(BaseModel):
    """Wraps a GeoMag, which stays usable by itself as `model`.

    The loss is the sum of the model's losses, each times its entry in `loss_weights` (1 where it
    has none). In testing, `max_views` overrides the budgets that are planned, and a pixel is marked
    where its probability lies above `threshold`.
    """

    def __init__(
        self,
        model: Mapping[str, Any] | nn.Module,
        loss_weights: Mapping[str, float] | None = None,
        max_views: float | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(data_preprocessor=ToDevice())
        self.model = build(model)
        self.loss_weights = dict(loss_weights or {})
        self.limits = Limits(max_views)
        self.threshold = threshold

    def init_weights(self) -> None:
        """Nothing: components start, or load, their own weights."""

    def forward(self, samples: Samples, mode: str = "loss") -> Any:
        if mode == "loss":
            return self.model.loss(samples)  # type: ignore[arg-type]  # a training batch
        return [self.test(sample) for sample in samples]  # type: ignore[arg-type]

    def parse_losses(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """What to descend, of this process, and what to log: the means over all processes.

        Raises:
            GeoMagError: a loss is not finite; nothing has been learnt from it yet.
        """
        total = torch.stack(
            [loss * self.loss_weights.get(name, 1.0) for name, loss in losses.items()]
        ).sum()
        logged = torch.stack([total.detach(), *(loss.detach() for loss in losses.values())])
        all_reduce(logged, op="mean")
        values = OrderedDict(zip(["loss", *losses], logged.tolist(), strict=True))
        if not bool(logged.isfinite().all()):
            listed = ", ".join(f"{name} {value}" for name, value in values.items())
            raise GeoMagError(
                f"training stopped: a loss is not finite ({listed}); resume from the last "
                "checkpoint with a lower learning rate, or without --amp"
            )
        return total, values

    def test(self, sample: LabelledSample) -> Examined:
        """Answers every exchange of a sample; they share what was seen of the scene."""
        looks: dict[View, Look] = {}
        outcomes, findings = [], []
        for exchange in sample.exchanges:
            found = self.answer(sample, exchange, looks)
            findings.append(found)
            outcomes.append(outcome(sample, exchange, found))
        return Examined(sample, tuple(outcomes), tuple(findings))

    def answer(
        self, sample: LabelledSample, exchange: Exchange, looks: dict[View, Look]
    ) -> Findings:
        """One answer; components that are to be told the truth are told it, for this prompt."""
        truth = [sample.shapes[place] for place in exchange.relevant]
        parts = [getattr(self.model, slot, None) for slot in SLOT_KINDS]
        told = [part for part in parts if isinstance(part, Binding)]
        for part in told:
            part.bind(truth)
        try:
            return self.model.answer(
                sample.scene, exchange.conversation, looks, self.limits, self.threshold
            )
        finally:
            for part in told:
                part.bind(())


def build(model: Mapping[str, Any] | nn.Module) -> Answering:
    """The model that a config's `model` describes: a GeoMag, or what trains and answers like one.

    Raises:
        ConfigError: it is of another type.
    """
    if isinstance(model, nn.Module):
        built = model
    else:
        arguments = dict(model.items())  # items() imports what mmengine holds lazily
        kind = arguments.pop("type", GeoMag)
        # mmengine spells classes out where it dumps a config into the work folder.
        if kind in (GeoMag, GeoMag.__name__, f"{GeoMag.__module__}.{GeoMag.__name__}"):
            return GeoMag(**arguments)
        if not isinstance(kind, type) and MODELS.get(kind) is None:
            raise ConfigError(f"model: its type is {kind}, expected GeoMag")
        built = MODELS.build({"type": kind, **arguments})
    if not (isinstance(built, nn.Module) and isinstance(built, Answering)):
        name = type(built).__name__
        raise ConfigError(
            f"model: its type is {name}, expected GeoMag, or a module with loss() and answer()"
        )
    return built


def outcome(sample: LabelledSample, exchange: Exchange, found: Findings) -> Outcome:
    """What is noted of one answer; all masks of an answer count as one, and so do all targets."""
    meant = sorted({place for places in exchange.instances for place in places})
    shapes = [sample.shapes[place] for place in meant]
    overlap = compare(found.masks, shapes, sample.scene.info.size)
    return Outcome(
        name=sample.name,
        task=exchange.task,
        prompt=exchange.conversation[-1].text,
        reply=exchange.reply.text,
        text=found.reading.text,
        overlap=overlap,
        refused=overlap.predicted == 0,
        score=max((mask.score for mask in found.masks), default=0.0),
        views=len(found.observation.looks) - 1,
        new_views=found.observation.new_views,
        tokens=found.tokens,
    )
