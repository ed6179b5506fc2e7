"""What a conversion was asked for, found to make sense before anything costly is done."""

from __future__ import annotations

from pathlib import Path

from msedge.converter.modes import PLANNED
from msedge.converter.profile import Mode, Profile
from msedge.data.calibration_images import Calibration, choose
from msedge.errors import DataError, ModelError, ToolMissing, UserError
from msedge.lite.protocol import Toolchain
from msedge.progress import Say
from msedge.quantization.plan import Plan
from msedge.runtime import Runner
from msedge.runtime.source import Source


def mode_of(profile: Profile, quant: str) -> Mode:
    if quant not in profile.modes:
        raise UserError(f"the target {profile.name} does not take {quant}", f"it takes {', '.join(profile.modes)}")
    return profile.modes[quant]


def calibration_for(quant: str, calib: Path | str | None, count: int, say: Say) -> Calibration | None:
    if calib is None or quant not in ("PostTraining", "WeightQuant"):
        if quant != "PostTraining":
            return None
        raise DataError("PostTraining needs images to calibrate with", "give --calib DIR, or --calib builtin:catdog")
    return choose(calib, count, say)


def quant_of(plan: Plan) -> str:
    """The mode that a plan is of."""
    return {"qat": "AwareTraining", "weight-only": "WeightQuant"}.get(plan.made_by.get("method"), "PostTraining")


def fitting_plan(plan: Plan | None, quant: str, file: Path) -> Plan | None:
    """The plan beside the model if it is of this mode. Raises UserError where it is of another, or none is there for QAT."""
    if quant not in PLANNED:
        return None
    if plan is None and quant == "AwareTraining":
        raise UserError(f"{file} has no trained plan beside it", "train with a recipe that has a qat section: catdog_qat.yaml")
    if plan and quant_of(plan) != quant:
        raise UserError(
            f"the plan beside {file} is for {quant_of(plan)}, not {quant}", "leave out --quant, or convert the float model"
        )
    return plan


def check_one_image(reference: Runner, source: Source) -> None:
    if reference.input_shape[0] != 1:
        raise ModelError(
            f"{source.given} takes {reference.input_shape[0]} images at a time, calibration needs one at a time",
            "export the model with batch 1",
        )


def check_abilities(toolchain: Toolchain, full_quant: bool) -> None:
    able, where = toolchain.info.abilities, f"the Lite toolchain in {toolchain.info.location}"
    hint = "run msedge lite install and leave --lite and MSEDGE_LITE unset"
    needed = {"convert": "convert", "predict": "run the result, which is how it is checked"}
    if full_quant:
        needed["full_quant"] = "quantise to INT8"
    for ability, words in needed.items():
        if not able.get(ability):
            raise ToolMissing(f"{where} cannot {words}", hint)
