"""What this machine has for msedge and what is missing, with the command that cures it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from msedge.artifact import cache_dir
from msedge.models.native.library import compiler
from msedge.runtime.toolchains import all_toolchains

OK, MISSING, BROKEN = "ok", "absent", "broken"
_IMPORTS = {
    "mindspore": "from msedge.mindspore_setup import load_mindspore; load_mindspore()",
    "onnx": "import onnx",
    "onnxruntime": "import onnxruntime",
    "opencv-python": "import cv2",
}
_OPTIONAL = {"openvino": "a second runtime for ONNX files in bench", "pytest": "the tests"}
_TOOLCHAIN_MB = 700
_LOW_MEMORY_MB = 4000


@dataclass(frozen=True)
class Check:
    """`status` is ok, absent (something optional) or broken (something that msedge needs); `cure` is a command or ''."""

    name: str
    status: str
    detail: str
    cure: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def check_machine() -> Iterator[Check]:
    """All checks, one by one; imports the required packages in processes of their own. Installs nothing."""
    yield _python()
    yield from _packages()
    yield from _optional_packages()
    yield from _processor()
    yield _compiler()
    yield _memory()
    yield _disk()
    yield from _lite()
    yield _ascend()
    yield from _android()


def _python() -> Check:
    version, here = platform.python_version(), sys.executable
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return Check("python", OK, f"{version} ({here})")
    return Check("python", BROKEN, f"{version} ({here}); MindSpore needs 3.10 to 3.12", "python3.11 -m venv .venv")


def _requirements() -> dict[str, object]:
    """Distribution names with what pyproject.toml asks of them; empty where msedge is not installed."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("msedge") or []
    except metadata.PackageNotFoundError:
        return {}
    return {r.name: r for r in map(Requirement, lines) if r.marker is None}


def _packages() -> Iterator[Check]:
    wanted = _requirements()
    if not wanted:
        yield Check("msedge", MISSING, "runs from a checkout, so the pins of the packages are not known", "pip install -e .")
    for name in sorted(wanted or _IMPORTS):
        requirement = wanted.get(name)
        cure = f"pip install '{requirement}'" if requirement else f"pip install {name}"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, BROKEN, "not installed", cure)
            continue
        if requirement and version not in requirement.specifier:
            yield Check(name, BROKEN, f"{version} is not {requirement.specifier}", cure)
        elif name in _IMPORTS and (problem := _import_problem(_IMPORTS[name])):
            yield Check(name, BROKEN, f"{version} cannot be imported: {problem}", cure)
        else:
            pin = f" (pinned {requirement.specifier})" if requirement else ""
            yield Check(name, OK, version + pin)


def _import_problem(statement: str) -> str:
    """Why an import fails in a new interpreter, '' where it does not."""
    here = str(Path(__file__).resolve().parents[2])
    search = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{search}" if search else here}
    program = f"{statement}\nimport os; os._exit(0)"
    try:
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return "no answer within 120 s"
    if run.returncode == 0:
        return ""
    lines = run.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"the interpreter ended with code {run.returncode}"


def _optional_packages() -> Iterator[Check]:
    for name, use in _OPTIONAL.items():
        try:
            yield Check(name, OK, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, MISSING, f"not installed; {use}", f"pip install {name}")


def _processor() -> Iterator[Check]:
    text = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set((re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE) or ["", ""])[1].split())
    features = [f for f in ("avx2", "avx512f", "avx512_vnni", "amx_tile", "asimddp", "fphp") if f in flags]
    cores = len(os.sched_getaffinity(0))
    name = model[1] if model else platform.machine()
    yield Check("processor", OK, f"{name}, {cores} cores, {' '.join(features) or 'no vector extension known'}")
    if "avx512f" in flags:
        set_by_user = os.environ.get("ONEDNN_MAX_CPU_ISA")
        if set_by_user and set_by_user.upper() not in ("AVX2", "AVX2_VNNI"):
            detail = f"ONEDNN_MAX_CPU_ISA={set_by_user}: MindSpore's convolutions may be 100 times slower with AVX-512"
            yield Check("oneDNN", MISSING, detail, "unset ONEDNN_MAX_CPU_ISA")
        else:
            yield Check("oneDNN", OK, "capped at AVX2 for MindSpore, whose AVX-512 convolutions are slow")


def _compiler() -> Check:
    if found := compiler():
        return Check("C compiler", OK, f"{found}, for training's own operators")
    return Check("C compiler", MISSING, "not found; training on a CPU is less than half as fast without", "apt install gcc")


def _memory() -> Check:
    text = _read("/proc/meminfo")
    sizes = {m[1]: int(m[2]) // 1024 for m in re.finditer(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    detail = f"{free} MB available of {total} MB"
    if free < _LOW_MEMORY_MB:
        return Check("memory", MISSING, f"{detail}; training wants about {_LOW_MEMORY_MB} MB")
    return Check("memory", OK, detail)


def _disk() -> Check:
    cache = cache_dir()
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free >> 20
    detail = f"{free} MB free for {cache}"
    if not os.access(existing, os.W_OK):
        return Check("cache", BROKEN, f"{cache} cannot be written", "export MSEDGE_CACHE=DIR")
    if free < _TOOLCHAIN_MB:
        return Check("cache", MISSING, f"{detail}; the Lite toolchain wants {_TOOLCHAIN_MB} MB", "export MSEDGE_CACHE=DIR")
    return Check("cache", OK, detail)


def _lite() -> Iterator[Check]:
    found = all_toolchains()
    if not found:
        detail = "no toolchain; the first convert installs it"
        yield Check("MindSpore Lite", MISSING, detail, "msedge lite install")
    for toolchain in found:
        if toolchain.info is None:
            cure = "unset MSEDGE_LITE" if toolchain.place == "MSEDGE_LITE" else "msedge lite install --force"
            yield Check("MindSpore Lite", BROKEN, f"{toolchain.place}: {toolchain.problem}", cure)
            continue
        able = toolchain.info.abilities
        words = [word for word in ("convert", "predict", "trace", "full_quant", "ascend") if able.get(word)]
        detail = f"{toolchain.place}: {toolchain.info.kind} {toolchain.info.version}, can {', '.join(words)}"
        if able.get("mindir_version") is not None:
            detail += f", reads MindIR up to version {able['mindir_version']}"
        yield Check("MindSpore Lite", OK, detail)


def _ascend() -> Check:
    places = [os.environ.get("ASCEND_TOOLKIT_HOME"), os.environ.get("ASCEND_HOME_PATH"), "/usr/local/Ascend"]
    toolkit = next((p for p in places if p and Path(p).is_dir()), None)
    if toolkit:
        driver = "npu-smi found" if shutil.which("npu-smi") else "no npu-smi, so no device"
        return Check("Ascend", OK, f"CANN in {toolkit}, {driver}")
    return Check("Ascend", MISSING, "no CANN toolkit: everything runs on the CPU")


def _android() -> Iterator[Check]:
    ndk = next((p for v in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT") if (p := os.environ.get(v)) and Path(p).is_dir()), None)
    if ndk:
        yield Check("Android NDK", OK, ndk)
    else:
        yield Check(
            "Android NDK", MISSING, "not found; only building native Android code needs it", "export ANDROID_NDK_HOME=DIR"
        )
    adb = shutil.which("adb")
    yield Check("adb", OK, adb) if adb else Check("adb", MISSING, "not found; only phones need it", "apt install adb")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
