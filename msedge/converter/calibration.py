"""Calibration images on their way into the converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msedge.converter.ini import Value
from msedge.data.calib import CalibrationSet, write_calib_bins
from msedge.data.calibration_images import Calibration
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError


def write_bins(
    calibration: Calibration, preprocess: Preprocess, input_name: str, folder: Path
) -> tuple[CalibrationSet, dict[str, dict[str, Value]]]:
    """Write the images as NHWC float32 files into the new `folder`; returns the set and the INI section that names it.

    Raises ArtifactError where the disk refuses or the path has characters that the INI cannot hold.
    """
    if any(c in str(folder) for c in ":,;\n") or ":" in input_name:
        raise ArtifactError(
            f"the converter cannot take calibration data for input {input_name!r} in {folder}",
            "neither may have a colon or comma: set TMPDIR to another folder, or rename the model's input",
        )
    written = write_calib_bins(calibration.paths, preprocess, folder)
    section: dict[str, Any] = preprocess.to_converter_section(folder, len(calibration.paths), input_name=input_name)
    return written, {"data_preprocess_param": section}
