"""One description of how an image becomes a tensor, compiled for every place that needs it.

The same `Preprocess` drives OpenCV (training, verify, predict), a MindData pipeline, the converter's
`[data_preprocess_param]` and the JSON that the app reads. Sizes follow MindData: with `resize="crop"` the shorter side
becomes round(size / crop_pct), the longer one is floored, and the crop starts at the floored half of what is over.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.data.images import read_image
from msedge.data.opencv import cv2
from msedge.errors import DataError

_CV2_INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
_CONVERTER_METHOD = {"bilinear": "LINEAR", "bicubic": "CUBIC"}
_CHOICES = {
    "resize": ("crop", "squash"),
    "interpolation": tuple(_CV2_INTERPOLATION),
    "channel_order": ("RGB", "BGR"),
}


@dataclass(frozen=True)
class Preprocess:
    """`mean` and `std` are on the 0..1 scale, in the tensor's channel order. Raises DataError for impossible values."""

    size: int  # pixels; the tensor is size x size
    resize: str = "crop"  # crop: shorter side to round(size / crop_pct), then the centre; squash: straight to size x size
    crop_pct: float = 1.0
    interpolation: str = "bilinear"  # bilinear, bicubic, area (OpenCV's; without antialiasing except area)
    channel_order: str = "RGB"  # or BGR
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self):
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(f"preprocess: {name} is {getattr(self, name)!r}", f"one of {', '.join(choices)}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise DataError(f"preprocess: size is {self.size!r}", "a whole number of pixels from 1 to 4096")
        if not 0.1 <= self.crop_pct <= 1.0:
            raise DataError(f"preprocess: crop_pct is {self.crop_pct!r}", "from 0.1 to 1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, self.mean + self.std)):
            raise DataError("preprocess: mean and std need three finite numbers each")
        if min(self.std) <= 0:
            raise DataError(f"preprocess: std is {self.std}", "each must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `model.json`; `from_dict` is the inverse."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Strict: raises DataError for unknown or missing keys and for wrong types."""
        if not isinstance(values, dict):
            raise DataError(f"preprocess: a table is needed, not {type(values).__name__}")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise DataError(f"preprocess: unknown key {unknown[0]!r}", f"known: {', '.join(fields)}")
        if "size" not in values:
            raise DataError("preprocess: size is missing")
        try:
            if "crop_pct" in values:
                values = {**values, "crop_pct": float(values["crop_pct"])}
            return cls(**values)
        except (TypeError, ValueError) as e:
            raise DataError(f"preprocess: a value has the wrong type: {e}") from None

    @property
    def resize_side(self) -> int:
        """Length in pixels that the shorter side (crop) or both sides (squash) are resized to."""
        return self.size if self.resize == "squash" else math.floor(self.size / self.crop_pct + 0.5)

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing and before cropping."""
        side = self.resize_side
        if self.resize == "squash":
            return side, side
        shorter = min(height, width)
        return side * height // shorter, side * width // shorter

    def geometry(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB [h, w, 3] to uint8 RGB [size, size, 3]: resize and crop only."""
        if self.resize == "crop":
            image = _without_far_ends(image)
        height, width = self.resized_shape(*image.shape[:2])
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=_CV2_INTERPOLATION[self.interpolation])
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return image[top : top + self.size, left : left + self.size]

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB [..., h, w, 3] to float32 [..., 3, h, w] in the tensor's channel order."""
        scale = np.float32(1) / (np.float32(255) * np.asarray(self.std, np.float32))
        bias = -np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        planes = np.moveaxis(images if self.channel_order == "RGB" else images[..., ::-1], -1, -3)
        out = np.multiply(planes, scale[:, None, None], dtype=np.float32, order="C")
        out += bias[:, None, None]
        return out

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB [h, w, 3] to float32 [3, size, size]."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise DataError(f"an image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
        return self.normalize(self.geometry(image))

    def batch(self, images: Sequence[Path | str | np.ndarray]) -> np.ndarray:
        """Paths or decoded images to float32 [n, 3, size, size]. Raises DataError for an unreadable file."""
        out = np.empty((len(images), 3, self.size, self.size), np.float32)
        for i, image in enumerate(images):
            out[i] = self(image if isinstance(image, np.ndarray) else read_image(image))
        return out

    def to_minddata(self) -> list:
        """MindData vision transforms that turn a decoded uint8 RGB image [h, w, 3] into the same float32 tensor."""
        from msedge.mindspore_setup import load_mindspore

        load_mindspore()
        from mindspore.dataset import vision

        inter = {
            "bilinear": vision.Inter.BILINEAR,
            "bicubic": vision.Inter.BICUBIC,
            "area": vision.Inter.AREA,
        }[self.interpolation]
        side = self.resize_side
        steps = [vision.Resize((side, side) if self.resize == "squash" else side, inter)]
        if self.resize == "crop":
            steps.append(vision.CenterCrop(self.size))
        if self.channel_order == "BGR":
            steps.append(vision.ConvertColor(vision.ConvertMode.COLOR_RGB2BGR))
        steps.append(vision.Normalize([255 * v for v in self.mean], [255 * v for v in self.std], is_hwc=True))
        steps.append(vision.HWC2CHW())
        return steps

    def to_converter_section(
        self, calibrate_path: Path | str, calibrate_size: int, *, input_name: str, input_type: str = "BIN"
    ) -> dict[str, str]:
        """The converter's `[data_preprocess_param]` (keys as MindSpore Lite 2.0.0 takes them).

        `BIN` reads the tensors that `msedge.data.calib.write_calib_bins` wrote: always exact, and what msedge uses.
        `IMAGE` lets the converter read a folder of images. It resizes to resize_width x resize_height without keeping
        the aspect ratio, so for `resize="crop"` it equals this class on square images only, ignores EXIF rotation and
        damage, and has no area resizing (DataError).
        """
        section = {"calibrate_path": f"{input_name}:{calibrate_path}", "calibrate_size": str(calibrate_size)}
        if input_type == "BIN":
            return {**section, "input_type": "BIN"}
        if input_type != "IMAGE":
            raise DataError(f"input_type is {input_type!r}", "BIN or IMAGE")
        if self.interpolation not in _CONVERTER_METHOD:
            raise DataError(f"the converter cannot resize with {self.interpolation!r}", "use input_type BIN")
        side = str(self.resize_side)
        section |= {
            "input_type": "IMAGE",
            "image_to_format": self.channel_order,
            "normalize_mean": _numbers(255 * v for v in self.mean),
            "normalize_std": _numbers(255 * v for v in self.std),
            "resize_width": side,
            "resize_height": side,
            "resize_method": _CONVERTER_METHOD[self.interpolation],
        }
        if self.resize == "crop":
            section |= {"center_crop_width": str(self.size), "center_crop_height": str(self.size)}
        return section

    def to_json(self) -> str:
        """The steps in order, for the app: resize, crop, channel order, `(pixel * scale + bias)`, float32 NHWC.

        `area` means the mean over the covered pixels where an image shrinks; where it grows, OpenCV's area rule.
        """
        steps: dict[str, Any] = {
            "resize": {
                "mode": "shorter_side" if self.resize == "crop" else "both_sides",
                "pixels": self.resize_side,
                "longer_side": "floor",
                "interpolation": self.interpolation,
                "half_pixel_centers": True,
                "antialias": self.interpolation == "area",
            },
            "center_crop": {"width": self.size, "height": self.size, "offset": "floor"},
            "channel_order": self.channel_order,
            "scale": [1 / (255 * s) for s in self.std],
            "bias": [-m / s for m, s in zip(self.mean, self.std, strict=True)],
            "layout": "NHWC",
            "dtype": "float32",
        }
        if self.interpolation == "bicubic":
            steps["resize"]["cubic_a"] = -0.75
        return json.dumps({"format": "msedge-preprocess", "version": 1, **steps}, indent=2) + "\n"


def _numbers(values) -> str:
    return "[" + ",".join(f"{v:.6g}" for v in values) + "]"


def _without_far_ends(image: np.ndarray) -> np.ndarray:
    """Of an image longer than 32 times its width keep the middle, so that resizing a thread cannot fill the memory."""
    longest = 32 * min(image.shape[:2])
    top, left = (max(0, (side - longest) // 2) for side in image.shape[:2])
    return image[top : top + longest, left : left + longest]
