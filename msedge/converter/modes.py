"""The words for quantisation modes and source formats."""

from __future__ import annotations

from msedge.errors import UserError
from msedge.recipe import quant_name

LABELS = {
    "none": "float",
    "fp16": "fp16",
    "PostTraining": "int8",
    "WeightQuant": "weight-only",
    "AwareTraining": "int8 (trained)",
}
PLANNED = ("PostTraining", "WeightQuant", "AwareTraining")  # what the msedge engine takes
ENGINES = ("msedge", "converter")
_FORMATS = ("ONNX", "MINDIR")


def canonical_quant(word: str) -> str:
    """none, fp16, PostTraining, WeightQuant or AwareTraining for any spelling. Raises UserError for unknown modes."""
    name = quant_name(word)
    if name is None:
        if word.lower().startswith("dynamic"):
            raise UserError(
                f"--quant {word}: MindSpore Lite 2.0.0 runs dynamic quantisation 40 times slower than float",
                "weight has the same size and float's speed",
            )
        raise UserError(f"--quant {word}: there is no such mode", f"one of {', '.join(LABELS)}")
    return name


def canonical_engine(word: str, quant: str) -> str:
    """msedge or converter for any spelling. Raises UserError for others, and where the converter has no such mode."""
    if word.lower() not in ENGINES:
        raise UserError(f"--engine {word}: there is no such engine", f"one of {', '.join(ENGINES)}")
    if word.lower() == "converter" and quant in ("WeightQuant", "AwareTraining"):
        raise UserError(f"--engine converter: MindSpore Lite's converter has no {quant} that its runtime loads",
                        "leave out --engine")  # fmt: skip
    return word.lower()


def canonical_format(word: str | None) -> str | None:
    """ONNX or MINDIR for any spelling, None for None. Raises UserError for others."""
    if word is None:
        return None
    if word.upper() not in _FORMATS:
        raise UserError(f"--fmk {word}: msedge converts {' and '.join(_FORMATS)}", "export the model as ONNX")
    return word.upper()
