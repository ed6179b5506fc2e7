from __future__ import annotations

from families import SMALL, small

from msedge.models import count_macs, count_params, create_model, describe


def test_learned_numbers_are_without_running_statistics():
    model = small("mobilevit_xxs")
    total = sum(p.size for p in model.get_parameters())
    statistics = sum(p.size for n, p in model.parameters_dict().items() if "running" in n)
    assert statistics > 0
    assert count_params(model) == total - statistics


def by_hand() -> int:
    """Multiply-adds of the narrow Swin of these tests, from its equations."""
    (_, w), total, inputs = SMALL["swin_nano"], 0, None
    total += 8 * 8 * 8 * 3 * 4 * 4 + 5 * 64 * 8  # patches and their norm
    for i, dim in enumerate(w["dim"]):
        side, window = 8 >> i, 4
        tokens = side * side
        if inputs:
            total += tokens * 4 * inputs * dim + 5 * tokens * 4 * inputs
        for heads, head_dim, hidden in zip(w["heads"][i], w["head_dim"][i], w["mlp"][i], strict=True):
            width = heads * head_dim
            total += tokens * dim * 3 * width + tokens * width * dim  # qkv, proj
            total += 2 * tokens * window * window * width  # scores, sums
            total += 2 * tokens * dim * hidden + 2 * 5 * tokens * dim  # mlp, two norms
        inputs = dim
    return total + 5 * 16 * 12 + 12 * 3  # last norm, head


def test_multiply_adds_are_those_of_the_equations(ms):
    model = small("swin_nano")
    assert count_macs(model) == by_hand()


def test_a_description_is_built_and_counted(ms):
    assert count_macs(describe("swin_nano", 3, 32, **SMALL["swin_nano"][1])) == by_hand()


def test_counting_leaves_the_training_flag(ms):
    model = create_model("mindcv:squeezenet1_0", 3, 64).set_train(True)
    assert count_macs(model, 96) > 2 * count_macs(model, 64)
    assert model.training
