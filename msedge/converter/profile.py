"""Back ends as data: `converters/<name>.yaml` says what the converter is told for a target."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msedge.converter import ini
from msedge.errors import UserError
from msedge.packaged import asset_folder
from msedge.recipe import suggest

_KEYS = ("name", "about", "machines", "save_type", "modes", "notes", "verified", "sources")
_VERIFIED = ("run here", "converted here", "read from sources")


@dataclass(frozen=True)
class Mode:
    """One quantisation mode of a target: the converter's fp16 flag and its INI sections (without the calibration data)."""

    fp16_weights: bool
    sections: dict[str, dict[str, ini.Value]]


@dataclass(frozen=True)
class Profile:
    """A target. `modes` is keyed by the canonical quantisation names (none, fp16, PostTraining)."""

    name: str
    about: str
    machines: tuple[str, ...]
    modes: dict[str, Mode]
    notes: tuple[str, ...]
    verified: str


def profile_names() -> list[str]:
    return sorted(p.stem for p in asset_folder("converters").iterdir() if p.suffix == ".yaml")


def load_profile(target: str) -> Profile:
    """The profile of a target; `cpu` is the one of this machine's processor.

    Raises UserError for an unknown target or a profile that is not sound.
    """
    names = profile_names()
    if target == "cpu":
        target = "cpu-arm64" if platform.machine().lower() in ("aarch64", "arm64") else "cpu-x86"
    if target not in names:
        raise UserError(f"there is no target '{target}'", suggest(target, ["cpu", *names]))
    return read_profile(asset_folder("converters") / f"{target}.yaml")


def read_profile(path: Path) -> Profile:
    """Read and check one profile; raises UserError naming the file and the key."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"the profile {path.name} cannot be read: {e}") from None
    where = path.name
    _keys(where, raw, _KEYS)
    if raw["name"] != path.stem:
        raise UserError(f"{where}: 'name' is {raw['name']}, not the file's name")
    if raw["save_type"] != "MINDIR_LITE":
        raise UserError(f"{where}: 'save_type' is {raw['save_type']}", "a .ms needs MINDIR_LITE")
    if raw["verified"] not in _VERIFIED:
        raise UserError(f"{where}: 'verified' is {raw['verified']}", f"one of {', '.join(_VERIFIED)}")
    if not isinstance(raw["modes"], dict) or not raw["modes"]:
        raise UserError(f"{where}: 'modes' is empty")
    modes = {name: _mode(f"{where}: modes.{name}", mode) for name, mode in raw["modes"].items()}
    return Profile(raw["name"], raw["about"], tuple(raw["machines"]), modes, tuple(raw["notes"] or ()), raw["verified"])


def _mode(where: str, raw: Any) -> Mode:
    _keys(where, raw, ("fp16_weights", "ini"))
    if not isinstance(raw["fp16_weights"], bool):
        raise UserError(f"{where}: 'fp16_weights' is not true or false")
    ini.check(raw["ini"], where)
    return Mode(raw["fp16_weights"], {section: dict(values) for section, values in raw["ini"].items()})


def _keys(where: str, raw: Any, wanted: tuple[str, ...]) -> None:
    if not isinstance(raw, dict):
        raise UserError(f"{where} is not a mapping")
    for key in raw:
        if key not in wanted:
            raise UserError(f"{where}: unknown key '{key}'", suggest(str(key), wanted))
    for key in wanted:
        if key not in raw:
            raise UserError(f"{where}: '{key}' is missing")
