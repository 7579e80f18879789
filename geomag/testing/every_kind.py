"""What every component promises, whatever slot it fills."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Binding, Sourced
from .checks import expect, expect_none, needs, promise
from .comparison import CLOSE, EXACT, ROUGH, differences
from .exercise import exercise
from .hidden import hidden
from .subject import Subject


@promise()
def check_can_be_built(build: Subject) -> None:
    """Its constructor takes the facts of a model beside its own arguments, and what comes of it has
    the methods and attributes of its contract."""
    build()


@promise()
def check_works_as_promised(build: Subject) -> None:
    """Asked as its contract says, it answers, with finite numbers."""
    found = exercise(build.kind, component := build(), build.samples(component))
    # An unlimited number of views is infinite.
    numbers = {name: value for name, value in found.items() if not name.startswith("plan")}
    expect_none(
        [f"{name} is not finite" for name, value in numbers.items() if not value.isfinite().all()]
    )


@promise()
def check_deterministic(build: Subject) -> None:
    """In eval mode the same input gives the same output, whatever the random numbers."""
    component = build()
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(exercise(build.kind, component, build.samples(component)))
    expect_none(differences(found[0], found[1], EXACT))


@promise()
def check_forgets_earlier_calls(build: Subject) -> None:
    """What it returns does not depend on what it was asked before."""
    component, other = build(), build()
    exercise(build.kind, other, build.samples(other, seed=5))
    first = exercise(build.kind, component, build.samples(component))
    second = exercise(build.kind, other, build.samples(other))
    expect_none(differences(first, second, EXACT))


@promise()
def check_input_unchanged(build: Subject) -> None:
    """It never writes into what it was handed."""
    samples = build.samples(component := build())
    exercise(build.kind, component, samples)
    expect_none([f"it changed {name} in place" for name in sorted(set(samples.changed()))])


@promise()
def check_nothing_hidden(build: Subject) -> None:
    """Every module, parameter and tensor it keeps is registered with torch, so that it is saved,
    moved and trained; an earlier slot stays inside its `Borrowed`."""
    expect_none(
        [f"{path} holds a {what} that torch does not know of" for path, what in hidden(build())]
    )


@promise()
def check_state_dict_is_all(build: Subject) -> None:
    """Its state dict, loaded strictly into another instance, makes that one the same."""
    first = _module(build)
    other = build(seed=1)
    other.load_state_dict(first.state_dict(), strict=True)
    expect_none(
        differences(
            exercise(build.kind, first, build.samples(first)),
            exercise(build.kind, other, build.samples(other)),
            EXACT,
        )
    )


@promise()
def check_follows_dtype_and_device(build: Subject) -> None:
    """Moved with `.to`, it works there: in double precision, and on an accelerator where there is
    one."""
    _module(build)
    places = [("cpu", torch.float64)]
    if torch.cuda.is_available():
        places.append(("cuda", torch.float32))
    for device, dtype in places:
        component, beside = build.parts()
        for module in (component, *beside.values()):
            module.to(device, dtype)
        samples = build.samples(component, dtype=dtype, device=device)
        if samples.reader is not component and "llm_adapter" in beside:
            samples.reader = beside["llm_adapter"]
        found = exercise(build.kind, component, samples)
        if build.kind == "vision_encoder":
            wrong = [name for name, value in found.items() if value.dtype != dtype]
            expect(not wrong, f"{', '.join(wrong)} of {dtype} weights and pixels is not {dtype}")
        reference = exercise(build.kind, plain := build(), build.samples(plain))
        moved = {name: value.cpu() for name, value in found.items()}
        # Accelerators multiply with fewer digits.
        _expect_alike(
            reference, moved, CLOSE if device == "cpu" else ROUGH, f"as {dtype} on {device}"
        )


@promise()
def check_gradient_reaches_parameters(build: Subject) -> None:
    """Every parameter that asks for a gradient gets one; what is trained elsewhere, or never, says
    `requires_grad=False`."""
    trained = _train(build, _module(build).train())
    left = [name for name, value in trained.items() if value.grad is None]
    expect(not left, f"no gradient reaches {', '.join(left)}")
    broken = [name for name, value in trained.items() if not _finite(value.grad)]
    expect(not broken, f"the gradient of {', '.join(broken)} is not finite")


@promise()
def check_learns_after_answering(build: Subject) -> None:
    """Answering, which happens in torch's inference mode, leaves nothing behind that could not be
    trained through."""
    component = _module(build)
    with torch.inference_mode():
        exercise(build.kind, component, build.samples(component))
    _train(build, component.train())


@promise()
def check_sourced_never_trains(build: Subject) -> None:
    """What it says it reads from elsewhere is in its state dict and never trains."""
    component = _module(build)
    needs(isinstance(component, Sourced), "it has no sourced()")
    named = set(component.sourced())
    strange = sorted(named - component.state_dict().keys())
    expect(not strange, f"sourced() names {', '.join(strange)}, which it does not hold")
    trained = {name for name, value in component.named_parameters() if value.requires_grad}
    both = sorted(named & trained)
    expect(not both, f"sourced() names {', '.join(both)}, which trains and would not be saved")


@promise("granularity_controller", "cropper", "mask_head")
def check_forgets_what_was_bound(build: Subject) -> None:
    """A component for benchmarks that was told the truth forgets it with `bind(())`."""
    component = build()
    needs(isinstance(component, Binding), "it has no bind()")
    before = exercise(build.kind, component, build.samples(component))
    component.bind(build.samples(component).truth())
    exercise(build.kind, component, build.samples(component))
    component.bind(())
    expect_none(differences(before, exercise(build.kind, component, build.samples(component))))


def _train(build: Subject, component: Any) -> dict[str, nn.Parameter]:
    """The parameters that train, after one backward pass from all that the component returns."""
    trained = {name: value for name, value in component.named_parameters() if value.requires_grad}
    needs(trained, "it has no parameters to train")
    with torch.enable_grad():
        found = exercise(build.kind, component, build.samples(component))
        parts = [value.float().sum() for value in found.values() if value.requires_grad]
        expect(parts, "nothing it returns can be trained by")
        torch.stack(parts).sum().backward()
    return trained


def _module(build: Subject) -> Any:
    component = build()
    needs(isinstance(component, nn.Module), "it is no torch module")
    return component


def _finite(gradient: Tensor | None) -> bool:
    return gradient is None or bool(gradient.isfinite().all())


def _expect_alike(
    first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float, where: str
) -> None:
    # What is generated or ranked may turn at a tie; what is computed may not.
    turning = ("text", "generated queries", "order")
    found = differences(
        {name: value for name, value in first.items() if name not in turning},
        {name: value for name, value in second.items() if name not in turning},
        tolerance,
    )
    expect_none([f"{where}, {problem}" for problem in found])
