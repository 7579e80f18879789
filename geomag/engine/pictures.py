"""Pictures of what the model looked at and marked, so that a person sees how training goes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from numpy.typing import NDArray
from PIL import Image

from .. import weights
from ..data.samples import LabelledSample
from ..evaluation.outcomes import Examined
from ..export.picture import draw
from ..model import Findings
from ..values import Exchange, Look, View
from .runner import GeoMagRunner


@HOOKS.register_module()
class PictureHook(Hook):
    """Draws answers: the image, the looks as rectangles, relevance, mask, truth and text.

    While training, every `interval` iterations (None: never), the first `prompts` prompts of the
    first `scenes` scenes of `dataset`, which is asked as in a test. While testing, where `testing`
    says so, the same of what is tested. Pictures go to `folder`, seen from the work folder.
    """

    priority = "LOW"

    def __init__(
        self,
        dataset: Mapping[str, Any] | Sequence[LabelledSample] | None = None,
        interval: int | None = 500,
        scenes: int | None = 4,
        prompts: int | None = 2,
        folder: str = "pictures",
        testing: bool = False,
    ) -> None:
        self._config = dataset
        self._samples: list[LabelledSample] | None = None
        self.interval = interval
        self.scenes = scenes
        self.prompts = prompts
        self.folder = folder
        self.testing = testing
        self._drawn = 0

    def after_train_iter(
        self, runner: GeoMagRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not self.interval or self._config is None or not is_main_process():
            return
        last = runner.iter + 1 == runner.max_iters or runner.train_loop.stop_training
        if not last and (runner.iter + 1) % self.interval:
            return
        runner.model.eval()  # the loop sets it back before the next iteration
        folder = Path(runner.work_dir) / self.folder / f"iter_{runner.iter + 1}"
        for sample in self._chosen():
            looks: dict[View, Look] = {}
            for exchange in sample.exchanges[: self.prompts]:
                found = runner.trainable.answer(sample, exchange, looks)
                save(folder, sample, exchange, found)

    def before_test(self, runner: Runner) -> None:
        self._drawn = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Examined] | None = None,
    ) -> None:
        if not self.testing:
            return
        for tested in outputs or ():
            if self.scenes is not None and self._drawn >= self.scenes:
                return
            self._drawn += 1
            answered = zip(tested.sample.exchanges, tested.findings, strict=True)
            for exchange, found in list(answered)[: self.prompts]:
                save(Path(runner.work_dir) / self.folder, tested.sample, exchange, found)

    def _chosen(self) -> list[LabelledSample]:
        if self._samples is None:
            source: Any = self._config
            built = DATASETS.build(source) if isinstance(source, Mapping) else source
            count = len(built) if self.scenes is None else min(self.scenes, len(built))
            self._samples = [built[place] for place in range(count)]
        return self._samples


def save(folder: Path, sample: LabelledSample, exchange: Exchange, found: Findings) -> Path:
    """Writes one picture, named after the scene and the prompt.

    Raises:
        OutputError: the folder cannot be written to.
    """
    meant = sorted({place for places in exchange.instances for place in places})
    truth = [sample.shapes[place] for place in meant]
    picture: NDArray[np.uint8] = draw(sample.scene, found, truth)
    words = re.sub(r"[^a-z0-9]+", "_", f"{exchange.task} {found.prompt.text}".lower()).strip("_")
    name = re.sub(r"[^\w.-]+", "_", sample.name)
    path = folder / f"{name}_{words[:60]}.png"
    with weights.replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    return path
