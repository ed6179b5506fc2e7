"""The same network in every runtime."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_models import environment, noise, small_onnx, spec

from msedge.errors import ArtifactError, ModelError, UserError
from msedge.runtime import Runner, load_spec, open_runner

needs_openvino = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import openvino"], capture_output=True, check=False).returncode != 0,
    reason="openvino is not installed",
)
RUNTIMES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino), pytest.param("lite", marks=pytest.mark.lite)]


def by_hand(file, x):
    """The network in NumPy's words: no runtime of ours."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(file))
    return np.concatenate([evaluator.run(None, {"x": image[None]})[0] for image in x])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_number_of_images_gives_the_reference_logits(runtime, onnx_file, request):
    path = request.getfixturevalue("ms_file") if runtime == "lite" else onnx_file
    x = noise(5)
    with open_runner(path, runtime=runtime) as runner:
        assert isinstance(runner, Runner)
        assert (runner.runtime, runner.input_shape, runner.spec) == (runtime, (1, 3, 32, 32), None)
        np.testing.assert_allclose(runner.predict(x), by_hand(onnx_file, x), atol=1e-5)
        logits, ms = runner.timed(x[:1])
        assert logits.shape == (1, 3)
        assert logits.dtype == np.float32
        assert 0 < ms < 1000
        assert runner.size_bytes == path.stat().st_size
        assert 10 < runner.peak_rss_mb < 100_000


@pytest.mark.parametrize("batch", ["n", 4])
def test_open_and_fixed_batches(tmp_path, batch):
    file = small_onnx(tmp_path / "m.onnx", batch=batch)
    one = small_onnx(tmp_path / "one.onnx")
    with open_runner(file) as runner, open_runner(one) as reference:
        assert runner.input_shape[0] == (4 if batch == 4 else 0)
        for n in (1, 4, 37):
            np.testing.assert_allclose(runner.predict(noise(n)), reference.predict(noise(n)), atol=1e-5)


def test_a_checkpoint_runs_in_graph_mode_for_any_number(checkpoint):
    from msedge.models import load_checkpoint_folder

    cell, _ = load_checkpoint_folder(checkpoint)
    import mindspore as ms

    x = noise(3, 64)
    expected = cell(ms.Tensor(x)).asnumpy()
    with open_runner(checkpoint) as runner:
        assert (runner.runtime, runner.spec.classes, runner.input_shape) == ("mindspore", ("cat", "dog"), (0, 3, 64, 64))
        np.testing.assert_allclose(runner.predict(x), expected, atol=1e-5)
        np.testing.assert_allclose(runner.predict(x[1:2]), expected[1:2], atol=1e-5)
    with open_runner(checkpoint / "best.ckpt") as runner:
        assert runner.file == checkpoint / "best.ckpt"


@pytest.mark.lite
def test_threads_reach_the_lite_session(ms_file, toolchain):
    with open_runner(ms_file, threads=2, lite=toolchain) as runner:
        assert runner.predict(noise(2)).shape == (2, 3)


@pytest.mark.lite
def test_a_closed_runner_leaves_no_process_behind(ms_file, toolchain):
    runner = open_runner(ms_file, lite=toolchain)
    pid = runner.session.pid
    runner.close()
    runner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 1, 32, 32), (3, 32, 32), (0, 3, 32, 32), (1, 32, 32, 3)])
def test_images_that_do_not_fit_are_refused(onnx_file, shape):
    with open_runner(onnx_file) as runner, pytest.raises(ModelError, match=r"takes images \[N, 3 x 32 x 32\]"):
        runner.predict(np.zeros(shape, np.float32))


def test_the_spec_is_read_from_beside_and_from_inside(tmp_path):
    inside = spec(classes=("a", "b", "c"))
    file = small_onnx(tmp_path / "model.onnx", described=inside)
    assert load_spec(file) == inside
    beside = spec(classes=("d", "e", "f"))
    beside.save(tmp_path)
    assert load_spec(file) == beside
    with open_runner(file) as runner:
        assert runner.spec == beside
    assert load_spec(small_onnx(tmp_path / "bare" / "model.onnx")) is None


def test_a_damaged_description_is_an_error_and_not_ignored(tmp_path):
    file = small_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.json").write_text('{"format": "msedge-model"')
    with pytest.raises(ModelError, match=r"model\.json"):
        load_spec(file)


def damage(path, kind):
    data = path.read_bytes()
    damaged = path.with_name(f"{kind}{path.suffix}")
    damaged.write_bytes({"half": data[: len(data) // 2], "text": b"hello, world\n" * 9, "zeros": bytes(2000)}[kind])
    return damaged


@pytest.mark.parametrize("kind", ["half", "text", "zeros"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_damaged_files_are_named(runtime, kind, onnx_file, request, tmp_path):
    source = request.getfixturevalue("ms_file") if runtime == "lite" else onnx_file
    file = tmp_path / source.name
    file.write_bytes(source.read_bytes())
    damaged = damage(file, kind)
    with pytest.raises(ArtifactError, match=damaged.name):
        open_runner(damaged, runtime=runtime)


def test_models_that_are_no_image_classifiers_are_refused(tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "two",
        [value("a", TensorProto.FLOAT, [1, 4]), value("b", TensorProto.FLOAT, [1, 4])],
        [value("c", TensorProto.FLOAT, [1, 4])],
    )
    file = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(file))
    with pytest.raises(ModelError, match=r"one image tensor.*a \[1, 4\], b \[1, 4\]"):
        open_runner(file)


def test_a_runtime_that_cannot_take_the_file(onnx_file):
    with pytest.raises(UserError, match=r"lite does not run .*onnxruntime or openvino"):
        open_runner(onnx_file, runtime="lite")
    with pytest.raises(UserError, match="did you mean 'openvino'"):
        open_runner(onnx_file, runtime="openvin")
    with pytest.raises(UserError, match="threads is 0"):
        open_runner(onnx_file, threads=0)


def test_a_mindir_is_not_run(tmp_path):
    (tmp_path / "m.mindir").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="converts but does not run"):
        open_runner(tmp_path / "m.mindir")


def test_opening_an_onnx_file_loads_neither_mindspore_nor_the_toolchain(onnx_file):
    program = (
        f"import sys; from msedge.runtime import open_runner; open_runner({str(onnx_file)!r}).close()\n"
        "print([m for m in ('mindspore', 'openvino', 'msedge.lite') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True)
    assert run.stdout.strip() == "[]"
