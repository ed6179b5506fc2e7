"""What a toolchain can do, found out by doing it: tiny models are converted, run, traced and quantised.

The models are written here byte by byte (protobuf wire format, onnx.proto3 and mind_ir.proto), so that probing needs
neither the onnx package nor MindSpore.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import numpy as np

from msedge.errors import ToolError, ToolFailed
from msedge.lite.protocol import ConvertRequest, Toolchain

TIMEOUT = 60.0
_SHAPE = (1, 2, 4, 4)
_CHANNELS = 3
_FLOAT, _INTS = 1, 7  # onnx: the data type float, the attribute type INTS
_CONFIG = """[common_quant_param]
quant_type=FULL_QUANT
bit_num=8
min_quant_weight_size=0
min_quant_weight_channel=0

[data_preprocess_param]
calibrate_path=x:{calibration}
calibrate_size=1
input_type=BIN

[full_quant_param]
activation_quant_method=MAX_MIN
bias_correction=false
per_channel=true
"""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value_info(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, d)) for d in shape)
    tensor_type = _field(1, _FLOAT) + _field(2, dims)
    return _field(1, name) + _field(2, _field(1, tensor_type))


def _node(kind: str, name: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, i) for i in inputs) + _field(2, output) + _field(3, name) + _field(4, kind) + attributes


def _ints(name: str, *values: int) -> bytes:
    return _field(1, name) + b"".join(_field(8, v) for v in values) + _field(20, _INTS)


def probe_weights() -> np.ndarray:
    """The probe's 1x1 convolution, float32 [3, 2]."""
    return np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], np.float32)


def probe_input() -> np.ndarray:
    """float32 [1, 2, 4, 4], asymmetric in every axis so that a wrong layout shows."""
    return np.linspace(-1.0, 1.5, num=32, dtype=np.float32).reshape(_SHAPE)


def probe_output() -> np.ndarray:
    """What the two-node model makes of `probe_input`, computed here: float32 [1, 48]."""
    return np.einsum("oc,nchw->nohw", probe_weights(), probe_input()).reshape(1, -1)


def two_node_onnx() -> bytes:
    """An ONNX model (opset 13): `x` [1, 2, 4, 4] through a 1x1 Conv "conv" and a Flatten "flat" to `y` [1, 48].

    Lite 2.0.0 converts no convolution whose strides and dilations are left to ONNX's defaults: they are written out.
    """
    ones = b"".join(_field(5, _ints(name, 1, 1)) for name in ("kernel_shape", "strides", "dilations"))
    dims = b"".join(_field(1, d) for d in (_CHANNELS, _SHAPE[1], 1, 1))
    weights = dims + _field(2, _FLOAT) + _field(8, "w") + _field(9, probe_weights().tobytes())
    graph = (
        _field(1, _node("Conv", "conv", ["x", "w"], "c", ones))
        + _field(1, _node("Flatten", "flat", ["c"], "y"))
        + _field(2, "probe")
        + _field(5, weights)
        + _field(11, _value_info("x", _SHAPE))
        + _field(12, _value_info("y", (1, _CHANNELS * 16)))
    )
    return _field(1, 8) + _field(2, "msedge") + _field(7, graph) + _field(8, _field(2, 13))


def future_mindir() -> bytes:
    """A MindIR of a version that no converter reads, so that it says which it does."""
    head = _field(1, "0.1.1") + _field(2, "MindSpore") + _field(3, "99.0.0") + _field(5, "1")
    return head + _field(7, _field(2, "g")) + _field(13, 1 << 30)


def _predict(toolchain: Toolchain, model: Path, tolerance: float) -> None:
    with toolchain.load(model) as session:
        error = float(np.abs(session.predict(probe_input()) - probe_output()).max())
    if not error <= tolerance:
        raise ToolFailed(f"MindSpore Lite ran a two-node model to a wrong result (off by {error:.3g})")


def _trace(toolchain: Toolchain, model: Path) -> None:
    with toolchain.load(model) as session:
        nodes = session.trace(probe_input())
    if not nodes or not np.allclose(nodes[-1].outputs[0].reshape(1, -1), probe_output(), atol=1e-4):
        raise ToolFailed("MindSpore Lite reported wrong outputs of single nodes")


def _full_quant(toolchain: Toolchain, source: Path, folder: Path, can_run: bool) -> None:
    calibration = folder / "calibration"
    calibration.mkdir()
    np.ascontiguousarray(probe_input().transpose(0, 2, 3, 1)).tofile(calibration / "0.bin")
    model = folder / "int8.ms"
    config = _CONFIG.format(calibration=calibration)
    toolchain.convert(ConvertRequest(source, model, "ONNX", config, timeout=TIMEOUT))
    if can_run:
        _predict(toolchain, model, 0.1)


def _mindir_version(toolchain: Toolchain, folder: Path) -> int | None:
    source = folder / "future.mindir"
    source.write_bytes(future_mindir())
    try:
        log = toolchain.convert(ConvertRequest(source, folder / "future.ms", "MINDIR", timeout=TIMEOUT)).log
    except ToolError as e:
        log = e.message + e.log
    found = re.search(r"maximum mind ir version: *(\d+)", log)
    return int(found[1]) if found else None


def _works(step, *arguments) -> bool:
    try:
        step(*arguments)
    except ToolError:
        return False
    return True


def _ascend() -> bool:
    """Whether Huawei's CANN toolkit is there, without which no converter can compile for Ascend."""
    places = [os.environ.get("ASCEND_TOOLKIT_HOME"), os.environ.get("ASCEND_HOME_PATH"), "/usr/local/Ascend"]
    return any(p and Path(p).is_dir() for p in places)


def probe(
    toolchain: Toolchain, *, can_run: bool | None, can_trace: bool, for_ascend: bool
) -> dict[str, bool | str | int | None]:
    """The abilities of a toolchain (`protocol.ToolchainInfo`), each proved.

    `can_run` says whether it runs models, None to find out. Raises ToolError where not even a two-node model converts, or
    where one that should run does not.
    """
    with tempfile.TemporaryDirectory(prefix="msedge-probe-") as name:
        folder = Path(name)
        source, model = folder / "probe.onnx", folder / "probe.ms"
        source.write_bytes(two_node_onnx())
        toolchain.convert(ConvertRequest(source, model, "ONNX", timeout=TIMEOUT))
        if can_run is None:
            can_run = _works(_predict, toolchain, model, 1e-4)
        elif can_run:
            _predict(toolchain, model, 1e-4)
        return {
            "convert": True,
            "predict": can_run,
            "trace": can_trace and _works(_trace, toolchain, model),
            "full_quant": _works(_full_quant, toolchain, source, folder, can_run),
            "mindir_version": _mindir_version(toolchain, folder),
            "ascend": for_ascend and _ascend(),
        }
