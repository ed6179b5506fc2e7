from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from families import FAMILIES, SMALL, small
from safetensors.numpy import save_file

from msedge.errors import ArtifactError, ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.models import create_model, load_weights, save_checkpoint, state

load_mindspore()

from mindspore import Tensor  # noqa: E402


def values(model) -> dict[str, np.ndarray]:
    return {n: p.asnumpy() for n, p in state(model).items()}


def other(name: str, **changes):
    """A model with all values different from those of `small`."""
    model = small(name, **changes)
    for p in model.get_parameters():
        p.set_data(Tensor(np.full(p.shape, 0.5, np.float32)))
    return model


@FAMILIES
def test_safetensors_load_by_name(tmp_path, name):
    source, target = small(name), other(name)
    save_file({**values(source), "stem.bn.num_batches_tracked": np.array(3)}, tmp_path / "w.safetensors")
    report = load_weights(target, tmp_path / "w.safetensors")
    assert set(report.loaded) == set(values(source))
    assert (report.missing, report.unexpected, report.replaced_head, report.notices) == ((), (), False, ())
    assert all((v == values(target)[n]).all() for n, v in values(source).items())


def test_a_folder_gives_its_best_checkpoint(tmp_path):
    source, target = small("swin_nano"), other("swin_nano")
    save_checkpoint(source, tmp_path / "best.ckpt")
    assert not load_weights(target, tmp_path).notices
    assert all((v == values(target)[n]).all() for n, v in values(source).items())


def test_of_a_training_state_only_the_model_counts(tmp_path):
    source, target = small("swin_nano"), other("swin_nano")
    extra = {"moment:adam_m.head.fc.weight": np.zeros(3, np.float32), "msedge.progress": np.zeros(2, np.uint8)}
    save_checkpoint({**{f"model:{n}": v for n, v in values(source).items()}, **extra}, tmp_path / "last.ckpt")
    assert not load_weights(target, tmp_path / "last.ckpt").notices
    assert all((v == values(target)[n]).all() for n, v in values(source).items())


@FAMILIES
def test_a_head_of_another_class_count_starts_anew(tmp_path, name):
    target = small(name, 5)
    first = values(target)
    heads = {n for n, v in first.items() if n.startswith("head") and v.shape[0] == 5}
    assert heads
    save_checkpoint(small(name, 3), tmp_path / "w.ckpt")
    report = load_weights(target, tmp_path / "w.ckpt")
    assert report.replaced_head
    assert report.notices == ("the head has 3 classes in the file: it starts anew with 5",)
    assert set(report.loaded) == set(first) - heads
    assert all((values(target)[n] == first[n]).all() for n in heads)


def test_missing_and_unexpected_tensors_are_reported(tmp_path):
    source = values(small("swin_nano"))
    del source["norm.bias"]
    save_file({**source, "aux.weight": np.zeros(2, np.float32)}, tmp_path / "w.safetensors")
    report = load_weights(other("swin_nano"), tmp_path / "w.safetensors")
    assert (report.missing, report.unexpected) == (("norm.bias",), ("aux.weight",))
    assert "1 parameters are not in the file and start anew, the first is norm.bias" in report.notices
    assert "1 tensors of the file are not used, the first is aux.weight" in report.notices


def test_swins_first_names_are_understood(tmp_path):
    source = small("swin_nano")
    old = {}
    for n, v in values(source).items():
        n = n.replace("head.fc.", "head.").replace("layers.1.downsample.", "layers.0.downsample.")
        old[n] = v
    old["layers.0.blocks.1.attn_mask"] = np.zeros((4, 16, 16), np.float32)
    old["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((16, 16), np.int64)
    save_file(old, tmp_path / "w.safetensors")
    target = other("swin_nano")
    assert not load_weights(target, tmp_path / "w.safetensors").notices
    assert all((v == values(target)[n]).all() for n, v in values(source).items())


@pytest.mark.parametrize(
    ("name", "change", "table"),
    [
        ("swin_nano", {"window": 2}, "layers.0.blocks.0.attn.relative_position_bias_table"),
        ("tiny_vit_5m", {"window": [4, 4, 2]}, "stages.1.blocks.0.attn.attention_biases"),
    ],
)
def test_tables_of_offsets_are_resized_with_a_notice(tmp_path, name, change, table):
    save_checkpoint(small(name, **change), tmp_path / "w.ckpt")
    target = other(name)
    report = load_weights(target, tmp_path / "w.ckpt")
    assert table in report.loaded
    assert any(n.startswith(f"{table} is resized from") for n in report.notices)
    assert np.ptp(values(target)[table]) > 0


def test_efficientformers_offsets_follow_the_image_size(tmp_path):
    save_checkpoint(small("efficientformer_l1"), tmp_path / "w.ckpt")
    target = create_model("efficientformer_l1", 3, 96, **SMALL["efficientformer_l1"][1])
    report = load_weights(target, tmp_path / "w.ckpt")
    tables = {2: (2, 9), 3: (1, 9)}
    assert report.notices == tuple(
        f"stages.3.blocks.{i}.token_mixer.attention_biases is resized from [{h}, 4] to [{h}, {n}]"
        for i, (h, n) in tables.items()
    )
    assert set(report.loaded) == set(state(target))
    before, after = (values(m)["stages.3.blocks.2.token_mixer.attention_biases"] for m in (small("efficientformer_l1"), target))
    assert (after[:, [0, 2, 6, 8]] == before).all()
    assert after[:, 4] == pytest.approx(before.mean(1), abs=1e-6)


def test_position_embeddings_are_resized_with_a_notice(tmp_path):
    from families import SMALL

    save_checkpoint(small("vit_tiny"), tmp_path / "w.ckpt")
    target = create_model("vit_tiny", 3, 48, **SMALL["vit_tiny"][1])
    report = load_weights(target, tmp_path / "w.ckpt")
    assert report.notices == ("pos_embed is resized from [1, 17, 12] to [1, 37, 12]",)
    assert set(report.loaded) == set(state(target))
    before, after = values(small("vit_tiny"))["pos_embed"], values(target)["pos_embed"]
    assert (after[:, 0] == before[:, 0]).all()
    assert after[0, 1:].mean(0) == pytest.approx(before[0, 1:].mean(0), abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: {"layer.w": np.zeros(3, np.float32)}, "no parameter of swin_nano"),
        (lambda v: {"norm.bias": v["norm.bias"]}, "1 of the 50 parameters of swin_nano"),
        (lambda v: {**v, "norm.bias": np.zeros(99, np.float32)}, r"norm.bias is \[99\] in the file and \[12\] in swin_nano"),
        (lambda v: {**v, "head.fc.weight": np.zeros((3, 5), np.float32)}, r"head.fc.weight is \[3, 5\]"),
        (lambda v: {**v, "norm.bias": np.full(12, np.nan, np.float32)}, "norm.bias holds values that are not finite"),
        (
            lambda v: {**v, "layers.0.blocks.0.attn.relative_position_bias_table": np.zeros((50, 2), np.float32)},
            r"relative_position_bias_table is \[50, 2\]",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(tmp_path, change, words):
    save_file(change(values(small("swin_nano"))), tmp_path / "w.safetensors")
    target = other("swin_nano")
    with pytest.raises(ModelError, match=words):
        load_weights(target, tmp_path / "w.safetensors")
    assert all((v == 0.5).all() for v in values(target).values())


def test_sixteen_bit_files_are_widened(tmp_path):
    source = values(small("swin_nano"))
    bits = {n: (v.view(np.uint32) >> 16).astype(np.uint16) for n, v in source.items()}
    head, data = {}, b""
    for n, v in bits.items():
        head[n] = {"dtype": "BF16", "shape": list(v.shape), "data_offsets": [len(data), len(data) + v.nbytes]}
        data += v.tobytes()
    text = json.dumps(head).encode()
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    save_file({n: v.astype(np.float16) for n, v in source.items()}, tmp_path / "h.safetensors")
    for name, precision in (("b", 2**-7), ("h", 2**-10)):
        target = other("swin_nano")
        assert not load_weights(target, tmp_path / f"{name}.safetensors").notices
        for n, v in values(target).items():
            assert v == pytest.approx(source[n], rel=precision, abs=1e-6)


def test_damaged_safetensors_are_one_model_error(tmp_path):
    save_file(values(small("swin_nano")), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for data in (whole[: len(whole) // 2], whole[:5], b"", b"x" * 100, b"\xff" * 64):
        (tmp_path / "bad.safetensors").write_bytes(data)
        with pytest.raises(ModelError) as e:
            load_weights(other("swin_nano"), tmp_path / "bad.safetensors")
        assert "\n" not in str(e.value)


def test_pickled_weights_are_refused_and_missing_ones_named(tmp_path):
    for name in ("w.pth", "w.bin", "w.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError, match="can run code"):
            load_weights(other("swin_nano"), tmp_path / name)
    with pytest.raises(ArtifactError, match="there are no weights at"):
        load_weights(other("swin_nano"), tmp_path / "none.ckpt")
    with pytest.raises(ArtifactError, match=r"best\.ckpt"):
        load_weights(other("swin_nano"), tmp_path)


@FAMILIES
def test_weights_of_another_family_are_refused_in_one_line(tmp_path, name):
    save_checkpoint(small(name), tmp_path / "w.ckpt")
    for stranger in SMALL:
        if stranger == name:
            continue
        target = other(stranger)
        with pytest.raises(ModelError) as e:
            load_weights(target, tmp_path / "w.ckpt")
        assert "\n" not in str(e.value)
        assert str(tmp_path / "w.ckpt") in str(e.value)
        assert stranger in str(e.value)
        assert all((v == 0.5).all() for v in values(target).values())


@FAMILIES
def test_a_value_that_is_not_finite_is_named(tmp_path, name):
    broken = values(small(name))
    victim = list(broken)[len(broken) // 2]
    for value in (np.nan, np.inf):
        broken[victim] = broken[victim].copy()
        broken[victim].flat[-1] = value
        save_file(broken, tmp_path / "w.safetensors")
        target = other(name)
        with pytest.raises(ModelError, match=f"{victim} holds values that are not finite"):
            load_weights(target, tmp_path / "w.safetensors")
        assert all((v == 0.5).all() for v in values(target).values())


@FAMILIES
def test_a_file_that_ends_too_soon_changes_nothing(tmp_path, name):
    save_file(values(small(name)), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    target = other(name)
    for length in (len(whole) - 1, len(whole) // 2, 9):
        (tmp_path / "w.safetensors").write_bytes(whole[:length])
        with pytest.raises(ModelError) as e:
            load_weights(target, tmp_path / "w.safetensors")
        assert "\n" not in str(e.value)
    assert all((v == 0.5).all() for v in values(target).values())
