"""The words for quantisation modes and source formats."""

from __future__ import annotations

from msedge.errors import UserError
from msedge.recipe import quant_name

LABELS = {"none": "float", "fp16": "fp16", "PostTraining": "int8"}
_NOT_BUILT = {
    "weightquant": "weight-only quantisation",
    "weight": "weight-only quantisation",
    "weight_quant": "weight-only quantisation",
    "awaretraining": "quantisation-aware training",
    "qat": "quantisation-aware training",
    "dynamic": "dynamic quantisation",
    "dynamicquant": "dynamic quantisation",
    "dynamic_quant": "dynamic quantisation",
}
_FORMATS = ("ONNX", "MINDIR")


def canonical_quant(word: str) -> str:
    """none, fp16 or PostTraining for any spelling. Raises UserError for unknown modes and those not built yet."""
    name = quant_name(word)
    if name is None:
        key = word.lower().replace("-", "_")
        if key in _NOT_BUILT:
            raise UserError(
                f"--quant {word}: {_NOT_BUILT[key]} is not built into msedge yet",
                "what there is: none, fp16, PostTraining (ptq)",
            )
        raise UserError(f"--quant {word}: there is no such mode", "one of none, fp16, PostTraining (ptq)")
    return name


def canonical_format(word: str | None) -> str | None:
    """ONNX or MINDIR for any spelling, None for None. Raises UserError for others."""
    if word is None:
        return None
    if word.upper() not in _FORMATS:
        raise UserError(f"--fmk {word}: msedge converts {' and '.join(_FORMATS)}", "export the model as ONNX")
    return word.upper()
