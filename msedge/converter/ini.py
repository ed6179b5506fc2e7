"""The converter's INI: checked against the keys that MindSpore Lite knows, and rendered in one place.

The converter refuses an unknown key in a section that it knows, and silently ignores a section that it does not know,
which leaves a model float where INT8 was asked for. So both are checked here.
"""

from __future__ import annotations

from collections.abc import Mapping

from msedge.errors import UserError
from msedge.recipe import suggest

Value = str | int | float | bool
Sections = Mapping[str, Mapping[str, Value]]

# Accepted by the converter of MindSpore Lite 2.0.0.
KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    "common_quant_param": (
        "quant_type",
        "bit_num",
        "min_quant_weight_size",
        "min_quant_weight_channel",
        "skip_quant_node",
        "enable_encode",
    ),
    "full_quant_param": ("activation_quant_method", "bias_correction", "per_channel", "target_device"),
    "weight_quant_param": ("dequant_strategy", "update_mindir"),
    "mixed_bit_weight_quant_param": ("init_scale", "auto_tune", "use_cv_data", "max_iterations"),
    "data_preprocess_param": (
        "calibrate_path",
        "calibrate_size",
        "input_type",
        "image_to_format",
        "normalize_mean",
        "normalize_std",
        "resize_width",
        "resize_height",
        "resize_method",
        "center_crop_width",
        "center_crop_height",
    ),
}
_CHOICES = {
    "quant_type": ("WEIGHT_QUANT", "FULL_QUANT", "DYNAMIC_QUANT"),
    "activation_quant_method": ("MAX_MIN", "KL", "REMOVAL_OUTLIER"),
    "input_type": ("BIN", "IMAGE"),
}


def check(sections: Sections, where: str = "the converter's settings") -> None:
    """Raise UserError for a section, key or value that the converter would refuse, misread or ignore."""
    for section, values in sections.items():
        if section not in KNOWN_KEYS:
            raise UserError(f"{where}: there is no section [{section}]", suggest(section, KNOWN_KEYS))
        for key, value in values.items():
            if key not in KNOWN_KEYS[section]:
                raise UserError(f"{where}: [{section}] has no key {key}", suggest(key, KNOWN_KEYS[section]))
            if key in _CHOICES and value not in _CHOICES[key]:
                raise UserError(f"{where}: [{section}] {key} is {value}", f"one of {', '.join(_CHOICES[key])}")
            if any(c in str(value) for c in "\r\n"):
                raise UserError(f"{where}: [{section}] {key} has a line break in its value")


def render(sections: Sections) -> str:
    """The INI text of checked sections, empty for no sections. Raises UserError as `check`."""
    check(sections)
    blocks = []
    for section, values in sections.items():
        lines = [f"{key}={_text(value)}" for key, value in values.items()]
        blocks.append("\n".join([f"[{section}]", *lines]) + "\n")
    return "\n".join(blocks)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
