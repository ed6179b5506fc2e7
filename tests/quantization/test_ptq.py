"""Plans from photos or noise: what is in them, which steps stay, and settings that make no sense."""

import json

import numpy as np
import pytest
from quant_tiny import tiny_images, tiny_transformer

from msedge.errors import DataError, UserError
from msedge.quantization.observers import OBSERVERS
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import load_plan
from msedge.quantization.ptq import PtqSettings, make_plan


def error(graph, plan, target, images):
    return float(((Simulation(graph).logits(images, plan) - target) ** 2).mean())


def test_everything_is_int8_and_the_logits_stay_close(tmp_path):
    graph, images = tiny_transformer(), tiny_images(32)
    changed, plan = make_plan(graph, images)
    assert plan.of("int8") == tuple(graph.units) and all(n.why for n in plan.nodes.values())
    plan.check(graph)
    target = Simulation(graph).logits(tiny_images(32, seed=5))
    found = Simulation(changed).logits(tiny_images(32, seed=5), plan)
    assert np.sqrt(((found - target) ** 2).mean()) < 0.1 * target.std()
    plan.save(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again.tensors == plan.tensors and json.loads(json.dumps(again.made_by)) == again.made_by


def test_each_step_is_judged_and_told_and_kept_only_where_it_helps():
    graph, images, told = tiny_transformer(), tiny_images(32), []
    changed, plan = make_plan(graph, images, say=told.append)
    steps = plan.made_by["steps"]
    assert [s["step"] for s in steps] == ["even channels", "error-compensated rounding", "bias correction"]
    assert len(told) == 3
    assert all(s["kept"] == (s["error_after"] < 0.98 * s["error_before"]) for s in steps)
    before = [s["error_before"] for s in steps]
    assert before == sorted(before, reverse=True)
    same = all(np.array_equal(v, changed.weights[n]) for n, v in graph.weights.items())
    assert same == (not any(s["kept"] for s in steps))


def test_the_steps_take_back_what_uneven_channels_cost():
    graph, factors = tiny_transformer(), np.ones(8, np.float32)
    factors[3] = 60
    scaled = {f"norm2.{p}": graph.weights[f"norm2.{p}"] * factors for p in ("weight", "bias")}
    graph = graph.with_weights(scaled | {"fc1.weight": graph.weights["fc1.weight"] / factors})
    images = tiny_images(32)
    target = Simulation(graph).logits(images)
    plain, full = (make_plan(graph, images, s) for s in (PtqSettings.plain(), PtqSettings()))
    assert full[1].made_by["steps"][0]["kept"]
    assert error(*full, target, images) < 0.7 * error(*plain, target, images)
    np.testing.assert_allclose(Simulation(full[0]).logits(images), target, atol=0.2)


def test_naive_is_per_tensor_extremes_and_worse():
    graph, images = tiny_transformer(), tiny_images(32)
    graph = graph.with_weights({"qkv.weight": graph.weights["qkv.weight"] * np.geomspace(0.02, 2, 24)[:, None]})
    target = Simulation(graph).logits(images)
    changed, naive = make_plan(graph, images, PtqSettings.naive())
    assert changed is graph and naive.made_by["steps"] == []
    assert all(len(t.scale) == 1 for t in naive.tensors.values())
    assert error(graph, naive, target, images) > 1.5 * error(*make_plan(graph, images), target, images)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_observer_makes_a_plan(observer, symmetric):
    graph, images = tiny_transformer(), tiny_images(8)
    _, plan = make_plan(graph, images, PtqSettings.plain(activations=observer, symmetric=symmetric))
    roles = {(t.role, t.symmetric) for t in plan.tensors.values()}
    assert roles == {("activation", symmetric), ("weight", True)}
    target = Simulation(graph).logits(images)
    assert error(graph, plan, target, images) < 0.1 * target.var()


def test_nodes_stay_float_by_pattern_and_the_early_ones_by_share():
    graph, images = tiny_transformer(), tiny_images(4)
    _, plan = make_plan(graph, images, PtqSettings(float_nodes=("head*", "scores")))
    assert plan.of("float") == ("scores", "head/Gemm")
    assert plan.nodes["scores"].why == "named by 'scores'"
    assert "logits" not in plan.tensors and "head.weight" not in plan.tensors
    total = sum(graph.weights[u.weight].size for u in graph.units.values() if u.weight)
    share = (6 * 27 + 6 * 9) / total
    _, plan = make_plan(graph, images, PtqSettings.plain(early_float=share + 1e-6))
    assert plan.of("float") == ("stem/Conv", "depthwise/Conv")
    assert "of the weights" in plan.nodes["stem/Conv"].why
    assert not make_plan(graph, images, PtqSettings.plain(early_float=0.01))[1].of("float")


def test_one_image_works_with_a_notice():
    told = []
    _, plan = make_plan(tiny_transformer(), tiny_images(1), say=told.append)
    assert plan.made_by["images"] == 1 and plan.made_by["steps"] == []
    assert told[0].startswith("one calibration image") and "too few to judge" in told[1]


def test_impossible_settings_and_images_are_refused():
    graph = tiny_transformer()
    with pytest.raises(UserError, match="activations is 'max'"):
        PtqSettings(activations="max")
    with pytest.raises(UserError, match="weights is 'kl'"):
        PtqSettings(weights="kl")
    with pytest.raises(UserError, match="early_float is 2"):
        PtqSettings(early_float=2)
    with pytest.raises(UserError, match="no node that can be quantised is named 'stages"):
        make_plan(graph, tiny_images(1), PtqSettings(float_nodes=("stages.*",)))
    with pytest.raises(DataError, match="no calibration images"):
        make_plan(graph, tiny_images(0))
    images = tiny_images(9)
    images[6, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="calibration image 7 of 9 has NaN"):
        make_plan(graph, images)
    with pytest.raises(DataError, match="one colour"):
        make_plan(graph, np.zeros((4, 3, 8, 8), np.float32))


def test_plans_are_the_same_every_time():
    graph, images = tiny_transformer(), tiny_images(12)
    one, other = make_plan(graph, images), make_plan(graph, images)
    assert one[1] == other[1]
    assert all(np.array_equal(v, other[0].weights[n]) for n, v in one[0].weights.items())
