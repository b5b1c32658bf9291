"""Stored grey values of a DICOM file to 0..255: Modality LUT, then VOI LUT or window, then inversion.

Formulas: PS3.3 C.7.6.3.1.2 (MONOCHROME1), C.11.1 (Modality LUT), C.11.2.1.2 (windows), C.11.2.1.1 (VOI LUT).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.radiology.dicom_headers import frame_group, numbers_of
from pgtune.data_adapters.radiology.files import did_you_mean
from pgtune.errors import AdapterError, DataError
from pgtune.example import shown

__all__ = ["PRESETS", "Window", "check_window", "grey"]

PRESETS: dict[str, tuple[float, float]] = {
    "abdomen": (60.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (40.0, 400.0),
}
"""Centre and width in Hounsfield units, as they are customary."""

Window: TypeAlias = "str | tuple[float, float]"
"""How grey values become brightness.

- ``auto``: the file's first VOI LUT or window. Without one (a window of width 0 is none): CT in Hounsfield units as
  ``soft_tissue``; up to 8 bits that are not rescaled as they are stored; else from the 0.5th to the 99.5th percentile
  of the frame.
- ``file``: as ``auto``, and a file without one is refused. ``file:2`` is the second, ``file:LUNG`` the one whose
  explanation is LUNG.
- ``minmax``: from the lowest to the highest value of the frame.
- a name of `PRESETS`: for CT in Hounsfield units, others are refused.
- ``[centre, width]``, in the units after the Modality LUT.
"""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_Values: TypeAlias = "NDArray[np.float64]"
# Grey values of so many different numbers go through a table; more (32 bit) are computed one by one.
_TABLE = 1 << 20


def check_window(window: object) -> Window:
    """The window as `Window` has it. Raises AdapterError: nothing of the kind."""
    if isinstance(window, str):
        if window in ("auto", "minmax", "file", *PRESETS) or (window.startswith("file:") and window[5:].strip()):
            return window
        known = ["auto", "file", "minmax", *PRESETS]
        raise AdapterError(
            f"window = {window!r}: expected {', '.join(known)}, file:2, file:NAME or [centre, width]"
            + did_you_mean(window, known)
        )
    pair = list(window) if isinstance(window, Sequence) else []
    if len(pair) != 2 or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in pair
    ):
        raise AdapterError(f"window = {shown(window)}: expected [centre, width], two numbers, or a name")
    if pair[1] < 1:
        raise AdapterError(f"window = {pair}: the width must be 1 or more")
    return float(pair[0]), float(pair[1])


def grey(stored: NDArray[Any], data: Any, frame: int, window: Window) -> NDArray[np.uint8]:
    """Brightness of stored values (rows x columns, as decoded, any number type): 0 black, 255 white.

    ``data`` is the header. Raises DataError, without the path.
    """
    padding = _padding(stored, data)
    inner = stored if padding is None else stored[~padding]
    if not inner.size:
        return np.zeros(stored.shape, np.uint8)
    transfer = _Transfer(data, frame, window, inner)
    low, high = inner.min(), inner.max()
    if stored.dtype.kind in "iu" and int(high) - int(low) < _TABLE:
        values = np.arange(int(low), int(high) + 1)
        table = transfer(values)
        bright = table[np.clip(stored.astype(np.int64), int(low), int(high)) - int(low)]
    else:
        bright = transfer(stored)
    if padding is not None:
        bright[padding] = 0
    return bright


class _Transfer:
    """From stored values to brightness; what depends on the frame's own values is settled when it is made."""

    def __init__(self, data: Any, frame: int, window: Window, inner: NDArray[Any]) -> None:
        self.rescale = frame_group(data, frame, "PixelValueTransformationSequence")
        self.voi = frame_group(data, frame, "FrameVOILUTSequence")
        self.data = data
        self.inverted = str(data.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"
        self.table, self.window, self.function = self._chosen(window, inner)

    def __call__(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        if self.table is not None:
            share = self._through_table(self.modality(stored), self.table)
        elif self.window is not None:
            share = windowed(self.modality(stored), *self.window, self.function)
        else:
            bits = int(self.data.get("BitsStored") or 8)
            share = np.asarray(stored, np.float64) / (2**bits - 1)
        share = np.clip(share, 0, 1)
        return np.round((1 - share if self.inverted else share) * 255).astype(np.uint8)

    def modality(self, stored: NDArray[Any]) -> _Values:
        """Values after the Modality LUT."""
        if self.data.get("ModalityLUTSequence"):
            pixels = require("pydicom.pixels", "radiology")
            return np.asarray(pixels.apply_modality_lut(stored, self.data), np.float64)
        slope, intercept = numbers_of(self.rescale, "RescaleSlope"), numbers_of(self.rescale, "RescaleIntercept")
        if slope and slope[0] == 0:
            raise DataError("its RescaleSlope is 0")
        values: _Values = np.asarray(stored, np.float64) * (slope or [1.0])[0] + (intercept or [0.0])[0]
        return values

    def _chosen(self, window: Window, inner: NDArray[Any]) -> tuple[int | None, tuple[float, float] | None, str]:
        """Which VOI LUT of the file (its place), or which window with which function; neither: as stored."""
        if not isinstance(window, str):
            return None, window, "LINEAR"
        if window in PRESETS:
            if not self._hounsfield():
                kind = "its modality is not CT" if self.data.get("Modality") != "CT" else "it has no RescaleIntercept"
                raise DataError(f"window = {window!r} is in Hounsfield units, {kind}; give [centre, width] instead")
            return None, PRESETS[window], "LINEAR"
        if window != "minmax":
            _, _, wanted = window.partition(":")
            found = self._of_file(wanted)
            if found is not None:
                return found
            if window != "auto":
                raise DataError(f"window = {window!r}: the file has no VOI LUT and no window of a width above 0")
            if self._hounsfield():
                return None, PRESETS["soft_tissue"], "LINEAR"
            small = int(self.data.get("BitsStored") or 8) <= 8 and inner.dtype.kind == "u"
            if small and not self._rescaled():
                return None, None, ""
        values = self.modality(inner)
        low, high = values.min(), values.max()
        if window == "auto":
            inside = np.percentile(values, (0.5, 99.5))
            low, high = inside if inside[1] > inside[0] else (low, high)
        return None, ((low + high) / 2, max(high - low, np.finfo(np.float64).tiny)), "LINEAR_EXACT"

    def _of_file(self, wanted: str) -> tuple[int | None, tuple[float, float] | None, str] | None:
        tables = list(self.voi.get("VOILUTSequence") or ())
        centres, widths = numbers_of(self.voi, "WindowCenter"), numbers_of(self.voi, "WindowWidth")
        function = str(self.voi.get("VOILUTFunction") or "LINEAR").strip()
        windows = list(zip(centres, widths, strict=False))
        names = [str(table.get("LUTExplanation") or "") for table in tables] + self._explanations()
        place = _place(wanted, names, len(tables) + len(windows))
        if place < len(tables):
            return place, None, ""
        place -= len(tables)
        usable = [pair for pair in windows if pair[1] > 0]
        if not wanted:
            if not usable:
                return None
            chosen = usable[0]
        else:
            chosen = windows[place]
            if chosen[1] <= 0:
                raise DataError(f"window = 'file:{wanted}': its width is {chosen[1]:g}")
        if function not in _FUNCTIONS:
            raise DataError(f"its VOILUTFunction is none of {', '.join(_FUNCTIONS)}")
        if function == "LINEAR" and chosen[1] < 1:  # not allowed, but met where values are shares
            function = "LINEAR_EXACT"
        return None, chosen, function

    def _explanations(self) -> list[str]:
        given = self.voi.get("WindowCenterWidthExplanation")
        return [] if given is None else [str(given)] if isinstance(given, str) else [str(name) for name in given]

    def _through_table(self, values: _Values, place: int) -> _Values:
        entry = self.voi["VOILUTSequence"][place]
        count, first, bits = (int(number) for number in entry.LUTDescriptor)
        content = entry.LUTData
        order = "<u2" if self.data.original_encoding[1] else ">u2"
        if isinstance(content, bytes) and bits <= 8 and len(content) in (count, count + 1):  # a byte each, made even
            order = "u1"
        # It has the sign of the values that the Modality LUT gives, which the header's type of number may not tell.
        if first >= 2**15 and values.min() < 0:
            first -= 2**16
        table = np.frombuffer(content, order) if isinstance(content, bytes) else np.asarray(content, np.int64)
        table = table[: count or 65536].astype(np.float64)
        if not table.size or not 1 <= bits <= 16:
            raise DataError("its VOI LUT is damaged")
        return np.asarray(table[np.clip(np.round(values).astype(np.int64) - first, 0, table.size - 1)] / (2**bits - 1))

    def _rescaled(self) -> bool:
        if self.data.get("ModalityLUTSequence"):
            return True
        slope, intercept = numbers_of(self.rescale, "RescaleSlope"), numbers_of(self.rescale, "RescaleIntercept")
        return (slope or [1.0])[:1] != [1.0] or (intercept or [0.0])[:1] != [0.0]

    def _hounsfield(self) -> bool:
        unit = str(self.rescale.get("RescaleType") or "HU").strip()
        return self.data.get("Modality") == "CT" and unit == "HU" and bool(numbers_of(self.rescale, "RescaleIntercept"))


def windowed(values: _Values, centre: float, width: float, function: str) -> _Values:
    """Shares of the brightness, 0 to 1 (beyond, for values outside of a linear window). PS3.3 C.11.2.1.2 and .3."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5)
    if width <= 1:  # the formula's slope is infinite: a threshold
        return np.asarray(values > centre - 0.5, np.float64)
    return np.asarray((values - (centre - 0.5)) / (width - 1) + 0.5)


def _place(wanted: str, names: list[str], count: int) -> int:
    """The place of the VOI LUT or window that is wanted: by number from 1, or by its explanation."""
    wanted = wanted.strip()
    if not wanted:
        return 0
    if wanted.isdigit():
        if not 1 <= int(wanted) <= count:
            raise DataError(f"window = 'file:{wanted}': the file has {count}")
        return int(wanted) - 1
    lower = [name.strip().lower() for name in names]
    if wanted.lower() not in lower[:count]:
        raise DataError(f"window = 'file:{wanted}': none of the file's {count} is explained so")
    return lower.index(wanted.lower())


def _padding(stored: NDArray[Any], data: Any) -> NDArray[np.bool_] | None:
    """Where pixels are padding (PixelPaddingValue, to PixelPaddingRangeLimit), or None where the file has none."""
    values = [*numbers_of(data, "PixelPaddingValue"), *numbers_of(data, "PixelPaddingRangeLimit")]
    if not values or stored.dtype.kind not in "iu":
        return None
    # A negative number for unsigned pixels, and the other way round: the same bits were meant (those stored).
    bits = 8 * stored.dtype.itemsize
    above = bits - min(bits, int(data.get("BitsStored") or bits))
    limits = np.array([int(value) % 2**bits for value in values], f"u{stored.dtype.itemsize}").view(stored.dtype)
    limits = (limits << above) >> above
    found = (stored >= limits.min()) & (stored <= limits.max())
    return found if found.any() else None
