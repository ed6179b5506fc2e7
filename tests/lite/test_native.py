"""Converting and running with msedge's own copy of MindSpore Lite 2.0.0, against onnxruntime."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from msedge.errors import ModelError
from msedge.lite import ConvertRequest, LiteModel, Session, Toolchain, read_ms

pytestmark = pytest.mark.lite


def reference(model: Path | bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], {"x": image[None]})[0] for image in x])


def test_it_is_a_toolchain_that_can_do_everything_here(toolchain):
    assert isinstance(toolchain, Toolchain)
    assert toolchain.info.kind == "native"
    assert toolchain.info.version == "2.0.0"
    expected = {"convert": True, "predict": True, "trace": True, "full_quant": True, "mindir_version": 1, "ascend": False}
    assert toolchain.info.abilities == expected


def test_convert_writes_a_readable_ms_fast(toolchain, small_onnx, tmp_path):
    output = tmp_path / "new" / "model.ms"
    outcome = toolchain.convert(ConvertRequest(small_onnx, output, "ONNX"))
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert [p.name for p in output.parent.iterdir()] == ["model.ms"]
    assert "CONVERT RESULT SUCCESS" in outcome.log
    assert 0 < outcome.seconds < 5
    assert outcome.worker_start_seconds < 1


def test_convert_replaces_an_older_file(toolchain, small_onnx, tmp_path):
    output = tmp_path / "model.ms"
    output.write_bytes(b"old")
    toolchain.convert(ConvertRequest(small_onnx, output, "ONNX"))
    assert output.read_bytes()[4:8] == b"MSL2"


def test_predict_agrees_with_onnxruntime_for_any_number_of_images(toolchain, small_onnx, small_ms, images):
    with toolchain.load(small_ms) as session:
        assert isinstance(session, Session)
        for n in (1, 6):
            logits = session.predict(images[:n])
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, reference(small_onnx, images[:n]), atol=1e-4)


def test_predict_takes_any_memory_layout_and_number_type(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        expected = session.predict(images)
        flipped = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(session.predict(flipped), expected)
        np.testing.assert_allclose(session.predict(images.astype(np.float64)), expected, atol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_a_model_of_batch_four_runs_any_number_of_images(toolchain, network, images, tmp_path, n):
    onnx.save(network(batch=4), tmp_path / "four.onnx")
    toolchain.convert(ConvertRequest(tmp_path / "four.onnx", tmp_path / "four.ms", "ONNX"))
    with toolchain.load(tmp_path / "four.ms") as session:
        logits = session.predict(images[:n])
    one = network(batch=1).SerializeToString()
    np.testing.assert_allclose(logits, reference(one, images[:n]), atol=1e-4)


def test_a_session_describes_its_tensors(toolchain, small_ms):
    with toolchain.load(small_ms) as session:
        assert [(t.name, t.shape, t.dtype) for t in session.inputs] == [("x", (1, 16, 16, 3), "float32")]
        assert [(t.name, t.shape, t.dtype) for t in session.outputs] == [("y", (1, 5), "float32")]


def test_timed_measures_predict_alone(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        session.predict(images)
        logits, ms = session.timed(images[:1])
        np.testing.assert_array_equal(logits, session.predict(images[:1]))
        assert 0 < ms < 100


def test_two_threads_give_the_same(toolchain, small_ms, images):
    with toolchain.load(small_ms) as one, toolchain.load(small_ms, threads=2) as two:
        np.testing.assert_allclose(one.predict(images), two.predict(images), atol=1e-5)


def test_a_session_may_be_shared_by_threads(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        expected = session.predict(images)
        wrong = []

        def run(i: int) -> None:
            for _ in range(20):
                if not np.array_equal(session.predict(images[i : i + 1]), expected[i : i + 1]):
                    wrong.append(i)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_trace_reports_every_node_with_onnx_names_types_times_and_outputs(toolchain, network, small_ms, images):
    inner = onnxruntime.InferenceSession(network(every_output=True).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in inner.get_outputs()]
    expected = dict(zip(names, inner.run(None, {"x": images[:1]}), strict=True))
    with toolchain.load(small_ms) as session:
        nodes = {n.name: n for n in session.trace(images[:1])}
    assert [n.type for n in nodes.values()] == [
        "Conv2DFusion",
        "AvgPoolFusion",
        "Transpose",
        "Flatten",
        "LayerNormFusion",
        "MatMulFusion",
    ]
    assert all(n.ms > 0 for n in nodes.values())
    nhwc = {"stem/conv": "r", "pool": "p"}  # convolution and Relu are one node; images travel as NHWC
    for name, output in nhwc.items():
        np.testing.assert_allclose(nodes[name].outputs[0].transpose(0, 3, 1, 2), expected[output], atol=1e-3)
    for name, output in {"flat": "f", "layer_norm_norm/shift": "n", "head/gemm": "y"}.items():
        np.testing.assert_allclose(nodes[name].outputs[0], expected[output], atol=1e-3)


def test_trace_without_outputs_keeps_names_and_times(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        nodes = session.trace(images[:1], keep_outputs=False)
        assert nodes[0].name == "stem/conv"
        assert all(n.outputs == () for n in nodes)
        session.predict(images)  # and the session goes on


def test_trace_wants_one_batch(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session, pytest.raises(ModelError, match="1 image"):
        session.trace(images[:2])


def test_fp16_weights_halve_the_file_and_keep_the_result(toolchain, network, images, tmp_path):
    source, float_ms, half_ms = tmp_path / "m.onnx", tmp_path / "float.ms", tmp_path / "half.ms"
    onnx.save(network(hidden=2000), source)
    toolchain.convert(ConvertRequest(source, float_ms, "ONNX"))
    toolchain.convert(ConvertRequest(source, half_ms, "ONNX", fp16_weights=True))
    assert half_ms.stat().st_size < 0.6 * float_ms.stat().st_size
    with toolchain.load(half_ms) as half:
        np.testing.assert_allclose(half.predict(images), reference(source, images), atol=2e-2)


def test_full_quant_runs_and_stays_close(toolchain, small_onnx, int8_ms, images):
    with toolchain.load(int8_ms) as session:
        logits = session.predict(images)
    expected = reference(small_onnx, images)
    cosine = (logits * expected).sum() / np.linalg.norm(logits) / np.linalg.norm(expected)
    assert cosine > 0.99
    assert not np.allclose(logits, expected, atol=1e-6)
    assert {n.name for n in read_ms(int8_ms).nodes if n.quant_type == "QUANT_ALL"} >= {"stem/conv", "head/gemm"}


@pytest.mark.parametrize(
    "shape", [(1, 4, 16, 16), (1, 3, 32, 32), (3, 16, 16), (1, 16, 16, 3), (0, 3, 16, 16)], ids=lambda s: "x".join(map(str, s))
)
def test_images_that_do_not_fit_are_refused(toolchain, small_ms, images, shape):
    with toolchain.load(small_ms) as session:
        with pytest.raises(ModelError):
            session.predict(np.zeros(shape, np.float32))
        assert session.predict(images[:1]).shape == (1, 5)


def test_threads_below_one_are_refused(toolchain, small_ms):
    with pytest.raises(ModelError, match="threads"):
        toolchain.load(small_ms, threads=0)


def test_peak_memory_is_known_while_running_and_afterwards(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        session.predict(images)
        running = session.peak_rss_mb
    assert 20 < running <= session.peak_rss_mb < 2000


def test_lite_model_finds_its_toolchain(small_ms, small_onnx, images):
    with LiteModel(small_ms) as model:
        np.testing.assert_allclose(model.predict(images), reference(small_onnx, images), atol=1e-4)


def test_many_predictions_leak_no_memory(toolchain, small_ms, images):
    with toolchain.load(small_ms) as session:
        for _ in range(200):
            session.predict(images[:1])
        before = session.peak_rss_mb
        for _ in range(600):
            session.predict(images[:1])
        assert session.peak_rss_mb - before < 2
