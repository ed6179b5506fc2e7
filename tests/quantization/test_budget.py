"""Budgets in words, and the float sets that hold them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from quant_judged import coarsened, judged_images, judged_model

from msedge.errors import CheckFailed, UserError
from msedge.quantization.budget import Budget, Loss, loss_of, parse_budget
from msedge.quantization.curve import draw
from msedge.quantization.mixed import find_mixed_plan
from msedge.quantization.onnx_simulation import Simulation


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A simulation, a plan with two spoiled nodes, images, the float model's decisions as labels, a cache."""
    graph, plan = judged_model()
    for name, factor in (("depthwise/Conv", 40), ("fc2/Gemm", 60)):
        plan = coarsened(plan, graph.units[name].output, factor)
    simulation, images = Simulation(graph), judged_images(48)
    labels = simulation.logits(images).argmax(axis=1)
    return simulation, plan, images, labels, tmp_path_factory.mktemp("scores")


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("0.5pp", "drop", 0.005),
        (" 1 PP ", "drop", 0.01),
        ("0pp", "drop", 0),
        (".25pp", "drop", 0.0025),
        ("agreement=0.99", "agreement", 0.99),
        ("Agreement = 99%", "agreement", 0.99),
        ("agreement=1", "agreement", 1),
    ],
)
def test_budgets_in_words(text, kind, limit):
    budget = parse_budget(text)
    assert (budget.kind, budget.limit) == (kind, pytest.approx(limit))
    again = parse_budget(str(budget))
    assert (again.kind, again.limit) == (kind, pytest.approx(limit))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not understood"),
        ("cheap", "is not understood (as --budget 0.5pp"),
        ("0.5", "does not say of what (50pp"),
        ("0.5%", "does not say of what (0.5pp"),
        ("-1pp", "is no loss that can be allowed"),
        ("100pp", "is no loss that can be allowed"),
        ("nanpp", "is not understood"),
        ("1e999pp", "is no loss that can be allowed"),
        ("agreement=0", "is no share of decisions"),
        ("agreement=99", "as agreement=0.99"),
        ("agreement=-1", "is no share of decisions"),
        ("agreement=", "is not understood"),
        ("top1=0.5pp", "is not understood"),
    ],
)
def test_budgets_that_are_none(text, message):
    with pytest.raises(UserError) as error:
        parse_budget(text)
    assert message in str(error.value)


def test_losses():
    reference = np.array([[2.0, 1], [2, 1], [1, 2], [1, 2]])
    other = np.array([[2.0, 1], [1, 2], [1, 2], [2, 1]])
    labels = np.array([0, 1, 1, 1])
    loss = loss_of(reference, other, labels)
    assert (loss.images, loss.top1, loss.top1_float, loss.agreement, loss.drop) == (4, 0.75, 0.75, 0.5, 0)
    assert loss_of(reference, other, None).drop is None
    assert Budget("drop", 0.0).holds(loss)
    assert not Budget("agreement", 0.6).holds(loss)
    assert Budget("agreement", 0.6).excess(loss) == pytest.approx(0.1)
    assert Budget("drop", 0.1).holds(Loss(10, 0.8, 0.9, 1, 0)), "exactly what is allowed is allowed"
    with pytest.raises(UserError, match="needs images with labels"):
        Budget("drop", 0.1).holds(loss_of(reference, other, None))


def test_the_float_set_is_the_spoiled_nodes(judged):
    simulation, plan, images, _, cache = judged
    reached = []
    progress = lambda label, total: contextlib.nullcontext(lambda done: reached.append((label, done, total)))  # noqa: E731
    mixed = find_mixed_plan(simulation, plan, parse_budget("agreement=0.9"), images, cache=cache, progress=progress)
    assert mixed.met and mixed.reason == ""
    mixed.require()
    assert set(mixed.found.nodes) <= {"depthwise/Conv", "fc2/Gemm", "head/Gemm"}
    assert {"depthwise/Conv", "fc2/Gemm"} & set(mixed.found.nodes)
    assert mixed.plan.of("float") == mixed.found.nodes
    for name in mixed.found.nodes:
        assert "quantising it alone moves the logits by" in mixed.plan.nodes[name].why
    logits = simulation.logits(images, mixed.plan)
    assert (logits.argmax(1) == simulation.logits(images).argmax(1)).mean() == mixed.found.loss.agreement >= 0.9
    assert reached[-1][1] == reached[-1][2]


@pytest.mark.parametrize("sizes", ["bytes", "count", "macs"])
def test_no_node_of_the_found_set_can_go_back(judged, sizes):
    simulation, plan, images, labels, cache = judged
    budget = parse_budget("5pp")
    mixed = find_mixed_plan(simulation, plan, budget, images, labels, sizes, cache=cache)
    assert mixed.met
    reference = simulation.logits(images)
    for name in mixed.found.nodes:
        fewer = plan.with_float(dict.fromkeys(set(mixed.found.nodes) - {name}, ""))
        assert not budget.holds(loss_of(reference, simulation.logits(images, fewer), labels))


@pytest.mark.slow
def test_the_found_set_is_near_the_smallest_of_all_sets(judged):
    """All sets of at most three of ten nodes, tried one by one."""
    simulation, plan, images, labels, cache = judged
    budget = parse_budget("agreement=0.85")
    mixed = find_mixed_plan(simulation, plan, budget, images, labels, "count", cache=cache)
    reference = simulation.logits(images)
    best = next(
        k
        for k in range(4)
        for names in combinations(plan.nodes, k)
        if budget.holds(loss_of(reference, simulation.logits(images, plan.with_float(dict.fromkeys(names, ""))), None))
    )
    assert best <= len(mixed.found.nodes) <= best + 1


def test_a_plan_that_holds_is_left_alone(judged, tmp_path):
    simulation, plan, images, labels, _ = judged
    mixed = find_mixed_plan(simulation, plan, parse_budget("99pp"), images, labels, cache=tmp_path / "unused")
    assert mixed.met and mixed.plan == plan and mixed.found.nodes == ()
    assert mixed.sensitivity is None and not (tmp_path / "unused").exists()


def test_nodes_that_are_float_already_stay_so(judged):
    simulation, plan, images, labels, cache = judged
    given = plan.with_float({"depthwise/Conv": "asked for"})
    mixed = find_mixed_plan(simulation, given, parse_budget("agreement=0.9"), images, labels, cache=cache)
    assert mixed.plan.nodes["depthwise/Conv"].why == "asked for"
    assert "depthwise/Conv" not in mixed.found.nodes


def test_the_curve_grows_and_is_drawn(judged, tmp_path):
    simulation, plan, images, labels, cache = judged
    mixed = find_mixed_plan(simulation, plan, parse_budget("2pp"), images, labels, cache=cache)
    document = json.loads(json.dumps(mixed.to_dict()))
    sizes = [p["bytes"] for p in document["curve"]]
    assert sizes == sorted(sizes)
    ends = {p["float_nodes"]: p for p in document["curve"]}
    assert ends[len(plan.nodes)]["agreement"] == 1
    assert ends[0]["agreement"] < 0.98
    assert document["found"] in document["curve"]
    assert set(document["why"]) == set(document["found"]["nodes"])
    for suffix, head in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        file = tmp_path / f"curve{suffix}"
        draw(mixed, file)
        assert file.read_bytes().startswith(head)
        first = file.read_bytes()
        draw(mixed, file)
        assert file.read_bytes() == first
    text = (tmp_path / "curve.svg").read_text()
    assert "agreement" in text or "<use" in text


def test_a_budget_that_cannot_be_met_names_the_nearest(judged):
    simulation, plan, images, labels, cache = judged
    flipped = -simulation.logits(images)
    mixed = find_mixed_plan(simulation, plan, parse_budget("agreement=0.99"), images, labels, reference=flipped, cache=cache)
    assert not mixed.met
    assert mixed.found.loss.agreement == max(p.loss.agreement for p in mixed.curve if len(p.nodes) < len(plan.nodes))
    assert mixed.plan.of("int8"), "the nearest still quantises something"
    with pytest.raises(
        CheckFailed, match=r"no plan that quantises anything holds agreement=0.99 on 48 images; the nearest has"
    ):
        mixed.require()
    assert json.loads(json.dumps(mixed.to_dict()))["reason"] == mixed.reason


def test_what_is_asked_for_is_checked(judged):
    simulation, plan, images, labels, _ = judged
    with pytest.raises(UserError, match="1pp needs images with labels"):
        find_mixed_plan(simulation, plan, parse_budget("1pp"), images)
    with pytest.raises(UserError, match="counted in 'weight'"):
        find_mixed_plan(simulation, plan, parse_budget("1pp"), images, labels, "weight")
    everything = plan.with_float(dict.fromkeys(plan.nodes, ""))
    with pytest.raises(UserError, match="quantises no node"):
        find_mixed_plan(simulation, everything, parse_budget("1pp"), images, labels)
    said = []
    exact = replace(plan, nodes={n: p for n, p in plan.nodes.items() if n == "stem/Conv"})
    find_mixed_plan(simulation, exact, parse_budget("0.5pp"), images, labels, say=said.append)
    assert said == ["one of 48 images is 2.08 points, the budget is finer: it allows no loss at all"]
