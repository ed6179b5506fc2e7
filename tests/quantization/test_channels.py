"""Where channels go in a graph with heads, checked against what changes when a channel changes."""

import numpy as np
import pytest
from onnx import numpy_helper
from quant_qat import export_small, small_images
from quant_tiny import DIM, HEADS, tiny_images, tiny_transformer

from msedge.quantization.channels import Channels, column_changes, scaled
from msedge.quantization.equalise import equalise, equalise_tensors
from msedge.quantization.graph import ModelGraph
from msedge.quantization.migration import migrate, migrate_tensors
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.ptq_scales import channel_ranges


@pytest.fixture(scope="module")
def channels():
    return Channels(tiny_transformer())


@pytest.mark.parametrize("split", [False, True])
def test_q_meets_k_by_head_and_v_reaches_the_projection(split):
    flow = Channels(tiny_transformer(split=split)).flow("qkv/Gemm", -1)
    left, right = flow.matched()
    np.testing.assert_array_equal(right - left, DIM)
    assert set(left) == set(range(DIM)) and DIM == HEADS * 4
    np.testing.assert_array_equal(np.flatnonzero(flow.free()), np.arange(2 * DIM, 3 * DIM))
    (columns,) = flow.columns
    assert columns.weight == "proj.weight" and columns.axis == 1
    np.testing.assert_array_equal(columns.ids, np.arange(2 * DIM, 3 * DIM))


@pytest.mark.parametrize(
    ("tensor", "axis", "free"),
    [("norm1/Add", -1, DIM), ("depthwise/Conv", 1, 6), ("stem/Mul", 1, 6), ("stem/Conv", 1, 0), ("fc1/Gemm", -1, 0),
     ("add1", -1, 0), ("pointwise/Conv", 1, 0), ("logits", -1, 0), ("gelu/Mul_1", -1, 12)],
)  # fmt: skip
def test_channels_are_free_only_where_weights_alone_read_them(channels, tensor, axis, free):
    assert channels.flow(tensor, axis).free().sum() == free


def test_what_the_columns_undo_is_exact():
    graph, images = tiny_transformer(), tiny_images(2)
    flow = Channels(graph).flow("depthwise/Conv", 1)
    factors = np.array([0.1, 1, 3, 20, 0.5, 7])
    own = [("depthwise.weight", 0, factors), ("depthwise.bias", 0, factors)]
    changed = scaled(graph, [*own, *column_changes(flow, factors)])
    np.testing.assert_allclose(Simulation(changed).logits(images), Simulation(graph).logits(images), atol=1e-5)
    undone = scaled(graph, own)
    assert np.abs(Simulation(undone).logits(images) - Simulation(graph).logits(images)).max() > 1e-2


def test_a_weight_that_two_nodes_read_keeps_its_channels():
    graph = tiny_transformer()
    node = next(n for n in graph.model.graph.node if n.name == "fc1/Gemm")
    node.input[1] = "tied"
    head = next(n for n in graph.model.graph.node if n.name == "fc2/Gemm")
    graph.model.graph.initializer.append(numpy_helper.from_array(np.ones((12, 8), np.float32), "tied"))
    second = type(node)()
    second.CopyFrom(node)
    second.name, second.output[0] = "again", "again"
    graph.model.graph.node.insert(list(graph.model.graph.node).index(head), second)
    assert Channels(ModelGraph(graph.model)).flow("norm2/Add", -1).free().sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilevit_xxs", "tiny_vit_5m", "swin_nano", "poolformer_s12"])
def test_both_rewrites_keep_the_outputs_of_the_backbones(name, tmp_path):
    graph, images = export_small(name, tmp_path, batch=1), small_images(name, 2)
    target = Simulation(graph).logits(images)
    even, normalised = equalise_tensors(graph), migrate_tensors(graph)
    assert normalised and bool(even) == (name != "poolformer_s12")  # no attention, and GELU between its convolutions
    ranges = channel_ranges(graph, images, even | normalised)
    for changed, tensors in ((equalise(graph, ranges), even), (migrate(graph, ranges), normalised)):
        moved = [n for n, v in graph.weights.items() if not np.array_equal(v, changed.weights[n])]
        assert len(moved) >= 2 * len(tensors)
        found = Simulation(changed).logits(images)
        np.testing.assert_allclose(found, target, atol=1e-5 * max(1, np.abs(target).max()))
