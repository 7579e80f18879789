"""A scene in memory."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SceneError
from ..values import Pixels, SceneInfo, Size, View

_LEAST, _MOST = 2, 98
_SAMPLED = 1 << 20


class ArrayScene:
    """An array `[H, W]` or `[H, W, 1 | 3 | 4]` as a scene of three bands.

    Grey is shown in all three; a fourth band is alpha, and what it makes fully transparent is not
    valid. uint8 counts to 255; floats lie in [0, 1], and what is not finite is not valid. uint16
    has no full scale of its own (sensors deliver 10 to 16 bits), so its 2nd to 98th percentiles,
    over all bands of the valid pixels together, are stretched to [0, 1]. The array is not copied.

    Raises:
        SceneError: the array is of another shape, type or range, or has no pixels.
    """

    def __init__(
        self, array: NDArray[Any], resolution: float | None = None, name: str = "array"
    ) -> None:
        _check(array, name)
        self._array, self._valid = _colours_and_valid(array)
        self._low, self._high = _range(self._array, self._valid)
        size = Size(*self._array.shape[:2])
        self.info = SceneInfo(size, bands=3, resolution=resolution, name=name)

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        Every view pixel is the mean of the valid pixels it covers; it is valid where any of
        them is. A window with a fractional border is read to the nearest whole pixel.
        """
        window = nearest_window(view)
        part = self._array[window]
        size = (view.size.width, view.size.height)
        valid = None if self._valid is None else self._valid[window]
        if valid is not None and valid.all():
            valid = None
        if valid is None and part.dtype == np.uint8:
            seen: NDArray[Any] = _resized(part, size).astype(np.float32) / 255
            share: NDArray[np.float32] | None = None
        else:
            values = (part.astype(np.float32) - self._low) / (self._high - self._low)
            seen, share = averaged(values.clip(0, 1), valid, size)
        return on_canvas(seen if seen.ndim == 3 else seen[..., None], share, side)


def nearest_window(view: View) -> tuple[slice, slice]:
    """The rows and columns of a view, to the nearest whole scene pixel, one at least."""
    box, scene = view.box, view.scene
    top = min(max(round(box.top), 0), scene.height - 1)
    left = min(max(round(box.left), 0), scene.width - 1)
    bottom = min(max(round(box.bottom), top + 1), scene.height)
    right = min(max(round(box.right), left + 1), scene.width)
    return slice(top, bottom), slice(left, right)


def averaged(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The mean of the valid values in each pixel, and the share of it that is valid."""
    if valid is None:
        return _resized(values, size), None
    share = _resized(valid.astype(np.float32), size)
    shaped = valid[..., None] if values.ndim == 3 else valid
    sums = _resized(values * shaped, size)
    whole = share[..., None] if values.ndim == 3 else share
    return sums.reshape(whole.shape[:2] + values.shape[2:]) / np.maximum(whole, 1e-6), share


def on_canvas(
    seen: NDArray[np.floating[Any]], share: NDArray[np.floating[Any]] | None, side: int
) -> Pixels:
    """Values `[h, w, 1 | 3]` at the top left of a square canvas, valid where any of a pixel is.

    `share [h, w]` is the part of each pixel that is valid, None for all of all.
    """
    height, width = seen.shape[:2]
    pixels = np.zeros((3, side, side), np.float32)
    inside = np.zeros((side, side), np.bool_)
    pixels[:, :height, :width] = seen.transpose(2, 0, 1)
    inside[:height, :width] = True if share is None else share > 0
    if share is not None:
        pixels *= inside
    return Pixels(torch.from_numpy(pixels), torch.from_numpy(inside))


def _check(array: NDArray[Any], name: str) -> None:
    if not isinstance(array, np.ndarray):
        raise SceneError(f"{name}: a {type(array).__name__} is no scene; give a numpy array")
    shape = f"{name}: an array of shape {list(array.shape)}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        cure = "; move the bands last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise SceneError(f"{shape} is no scene: expected [H, W] or [H, W, 1, 3 or 4]{cure}")
    if 0 in array.shape:
        raise SceneError(f"{shape} has no pixels")
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise SceneError(
            f"{name}: values of type {array.dtype} have no known range; convert to uint8, uint16 or"
            " float in [0, 1]"
        )
    if np.issubdtype(array.dtype, np.floating):
        finite = array[np.isfinite(array)]
        if len(finite) and (finite.min() < -1e-3 or finite.max() > 1 + 1e-3):
            raise SceneError(
                f"{name}: floats from {finite.min():g} to {finite.max():g}; expected [0, 1]: divide"
                " by the full scale, or convert to uint8 or uint16"
            )


def _colours_and_valid(
    array: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Colours `[H, W]` or `[H, W, 3]` and which pixels are valid, None for all."""
    valid: NDArray[np.bool_] | None = None
    if array.ndim == 3 and array.shape[2] == 4:
        array, valid = array[..., :3], array[..., 3] > 0
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if np.issubdtype(array.dtype, np.floating):
        finite = np.isfinite(array)
        finite = finite.all(2) if finite.ndim == 3 else finite
        valid = finite if valid is None else valid & finite
        array = np.nan_to_num(array.astype(np.float32), nan=0, posinf=0, neginf=0)
    if valid is not None and valid.all():
        valid = None
    return np.ascontiguousarray(array), valid


def _range(array: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Which values become 0 and 1."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    if array.dtype != np.uint16:
        return 0.0, 1.0
    # A sample on a grid is enough for percentiles, and bounds the time on large scenes.
    step = max(1, math.isqrt(array.shape[0] * array.shape[1] // _SAMPLED))
    known = array[::step, ::step]
    if valid is not None:
        known = known[valid[::step, ::step]]
    if known.size:
        low, high = np.percentile(known, (_LEAST, _MOST)).tolist()
        if high > low:
            return low, high
    return 0.0, 65535.0


def _resized(part: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """`part` at `size` (width, height): the mean over each pixel's area where it shrinks."""
    if (part.shape[1], part.shape[0]) == size:
        return part
    shrinks = part.shape[1] >= size[0] and part.shape[0] >= size[1]
    resized: NDArray[Any] = cv2.resize(
        part, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized
