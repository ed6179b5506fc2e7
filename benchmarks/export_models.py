"""One seeded model as ONNX: by msedge, and by MindSpore's own exporter. Run by latency.py in a process of its own.

    python benchmarks/export_models.py NAME IMAGE_SIZE OUT [own]

OUT receives `msedge/` (an export folder). With `own` also `mindspore/` (the same cell) and `mindcv/` (MindCV's model of the
same architecture, where it has one) from MindSpore's exporter: `golden.npz` and either `model.onnx` or `failed.txt` with
what MindSpore said. `repaired.onnx` has the LayerNorms in the form that Lite 2.0.0 reads rightly.

MindSpore 2.10's exporter takes none of msedge's CPU cells with gradients of their own, and convolutions only with
kernel sizes as tuples: the cell is built of MindSpore's plain operators and given such tuples.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx

from msedge.artifact import atomic_path, write_text
from msedge.exporter import export_cell
from msedge.exporter.check import run_cell
from msedge.exporter.golden import golden_inputs
from msedge.mindspore_setup import load_mindspore
from msedge.models import create_model, default_preprocess, spec_of

GOLDEN = 4
MINDCV = {
    "mobilevit_xxs": "mobilevit_xx_small",
    "mobilevit_xs": "mobilevit_x_small",
    "mobilevit_s": "mobilevit_small",
    "swin_tiny": "swin_tiny",
    "poolformer_s12": "poolformer_s12",
}


def plain_cell(name: str, size: int):
    from mindspore import ops

    from msedge.models import attention, layers

    for module in (layers, attention):
        module.on_cpu = lambda: False
    cell = create_model(name, image_size=size)
    for _, part in cell.cells_and_names():
        for primitive in [*vars(part).values(), *getattr(part, "_primitives", {}).values()]:
            if isinstance(primitive, ops.Conv2D):
                primitive.add_prim_attr("kernel_size", _pair(primitive.kernel_size))
    return cell


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def export_by_mindspore(cell, name: str, size: int, out: Path) -> None:
    ms = load_mindspore()
    out.mkdir(parents=True, exist_ok=True)
    for stale in ("model.onnx", "repaired.onnx", "failed.txt"):
        (out / stale).unlink(missing_ok=True)
    inputs = golden_inputs(default_preprocess(name, size), GOLDEN)
    np.savez(out / "golden.npz", inputs=inputs, logits=run_cell(cell, inputs))
    try:
        ms.export(cell, ms.Tensor(inputs[:1]), file_name=str(out / "model"), file_format="ONNX")
        (out / "model.onnx").chmod(0o644)
    except Exception as e:  # MindSpore's exporter raises whatever its parts raise
        write_text(out / "failed.txt", str(e).strip().splitlines()[0] + "\n")
        return
    model = onnx.load(out / "model.onnx")
    if repair_layernorms(model.graph):
        with atomic_path(out / "repaired.onnx") as temporary:
            onnx.save(model, temporary)


def repair_layernorms(graph: onnx.GraphProto) -> int:
    """ReduceSumSquare and Div by the count become Pow 2 and ReduceMean, in place. Returns how many there were."""
    squares = {n.output[0]: n for n in graph.node if n.op_type == "ReduceSumSquare"}
    if squares:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(2, np.float32), "repair.two"))
    nodes = []
    for node in graph.node:
        if node.op_type == "ReduceSumSquare":
            continue
        if node.op_type == "Div" and node.input[0] in squares:
            square = squares[node.input[0]]
            nodes.append(onnx.helper.make_node("Pow", [square.input[0], "repair.two"], [square.output[0]]))
            mean = onnx.helper.make_node("ReduceMean", [square.output[0]], node.output)
            mean.attribute.extend(square.attribute)
            nodes.append(mean)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return len(squares)


def main() -> None:
    name, size, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    cell = create_model(name, image_size=size)
    export_cell(cell, spec_of(cell), out / "msedge", golden=GOLDEN)
    if sys.argv[4:] != ["own"]:
        return
    export_by_mindspore(plain_cell(name, size), name, size, out / "mindspore")
    if name in MINDCV:
        export_by_mindspore(create_model("mindcv:" + MINDCV[name], image_size=size), name, size, out / "mindcv")


if __name__ == "__main__":
    load_mindspore()
    main()
    os._exit(0)  # MindSpore's thread pools take seconds to end
