"""ConvNeXt (Liu et al. 2022), which mmsegmentation takes from mmpretrain.

onedl-mmpretrain 1.3.6 cannot be imported without torchvision, so the network stands here. Names and
arguments are mmpretrain's: its weights fit, and what configs of mmsegmentation say of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geomag.errors import ConfigError

ARCHITECTURES: Mapping[str, Mapping[str, Sequence[int]]] = {
    "tiny": {"depths": (3, 3, 9, 3), "channels": (96, 192, 384, 768)},
    "small": {"depths": (3, 3, 27, 3), "channels": (96, 192, 384, 768)},
    "base": {"depths": (3, 3, 27, 3), "channels": (128, 256, 512, 1024)},
    "large": {"depths": (3, 3, 27, 3), "channels": (192, 384, 768, 1536)},
    "xlarge": {"depths": (3, 3, 27, 3), "channels": (256, 512, 1024, 2048)},
}
_EPSILON = 1e-6


class ConvNeXt(nn.Module):
    """Features after the stages `out_indices`, of strides 4, 8, 16 and 32.

    Raises:
        ConfigError: `arch` is unknown, or features are to be averaged over the image.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = "tiny",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        gap_before_final_norm: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        depths, channels = _sizes(arch, gap_before_final_norm)
        self.out_indices = tuple(out_indices)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        before = in_channels
        for place, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            self.downsample_layers.append(
                nn.Sequential(_ChannelNorm(before, _EPSILON), nn.Conv2d(before, width, 2, 2))
                if place
                else nn.Sequential(nn.Conv2d(before, width, 4, 4), _ChannelNorm(width, _EPSILON))
            )
            blocks = [
                _Block(width, next(rates), layer_scale_init_value, with_cp) for _ in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
            if place in self.out_indices:
                self.add_module(f"norm{place}", _ChannelNorm(width, _EPSILON))
            before = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        levels = []
        for place, (shrink, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            values = stage(shrink(values))
            if place in self.out_indices:
                levels.append(getattr(self, f"norm{place}")(values))
        return tuple(levels)


class _Block(nn.Module):
    """A depthwise 7 x 7 convolution, then a wider layer at each position by itself."""

    def __init__(self, width: int, rate: float, scale: float, with_cp: bool) -> None:
        super().__init__()
        self.rate, self.with_cp = rate, with_cp
        self.depthwise_conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, _EPSILON)
        self.pointwise_conv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pointwise_conv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), scale)) if scale > 0 else None

    def forward(self, values: Tensor) -> Tensor:
        if self.with_cp and values.requires_grad:
            changed: Tensor = checkpoint(self._change, values, use_reentrant=False)
        else:
            changed = self._change(values)
        return values + changed

    def _change(self, values: Tensor) -> Tensor:
        rows = self.norm(self.depthwise_conv(values).permute(0, 2, 3, 1))
        rows = self.pointwise_conv2(self.act(self.pointwise_conv1(rows)))
        if self.gamma is not None:
            rows = rows * self.gamma
        return self._dropped(rows.permute(0, 3, 1, 2))

    def _dropped(self, values: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016), image by image."""
        if not self.training or not self.rate:
            return values
        kept = torch.rand(len(values), 1, 1, 1, device=values.device) >= self.rate
        return values * kept / (1 - self.rate)


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation of `[N, C, h, w]` over C, each position on its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _sizes(arch: str | Mapping[str, Sequence[int]], averaged: bool) -> tuple[list[int], list[int]]:
    problems = []
    if averaged:
        problems.append("gap_before_final_norm=True leaves no grid; take it out")
    if isinstance(arch, str) and arch not in ARCHITECTURES:
        problems.append(f"arch={arch!r} is unknown; known: {', '.join(ARCHITECTURES)}, or a dict")
    found = ARCHITECTURES.get(arch) if isinstance(arch, str) else arch
    if found is not None and {"depths", "channels"} - found.keys():
        problems.append(f"arch={dict(found)} lacks depths or channels")
    if found is None or problems:
        raise ConfigError(f"ConvNeXt: {'; '.join(problems)}")
    return list(found["depths"]), list(found["channels"])
