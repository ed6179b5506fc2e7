"""What is taken out of a converter's log for the one-line error."""

from __future__ import annotations

import pytest

from msedge.lite.logs import useful_lines

STAMP = "LITE(9031,7faceb275b80,python):2026-11-20-04:27:19.065.047 [mindspore/lite/tools/converter/x.cc:392] "


def test_the_cause_is_told_without_stamps_and_echoes():
    log = (
        f"[WARNING] {STAMP}Run] node will not quantify\n"
        f"[ERROR] {STAMP}InitOriginModel] Read onnx model file failed, model path: a.onnx\n"
        f"[ERROR] {STAMP}Build] Load model file failed\n"
        f"[ERROR] {STAMP}Convert] Handle graph failed: -1 Common error code.\n"
        f"[ERROR] {STAMP}Convert] Convert model failed, ret=Common error code.\n"
        "CONVERT RESULT FAILED:-1 Common error code.\n"
    )
    assert useful_lines(log) == "Read onnx model file failed, model path: a.onnx"


def test_of_many_errors_the_first_two_and_the_last_are_told_once():
    log = "".join(f"[ERROR] {STAMP}Run] error {n}\n" for n in (1, 1, 2, 3, 4, 4, 5))
    assert useful_lines(log) == "error 1 | error 2 | error 5"


def test_a_cpp_exceptions_text_is_the_cause():
    log = (
        f"[ERROR] {STAMP}operator^] Runtime error for null exception handler.\n"
        "terminate called after throwing an instance of 'std::runtime_error'\n"
        "  what():  This software can only support the maximum mind ir version: 1\n"
        "----------------------------------------------------\n"
        "- C++ Call Stack: (For framework developers)\n"
        "mindspore/core/load_mindir/load_model.cc:2014 MSANFParseModelConfigureInfo\n"
    )
    assert useful_lines(log + "error: gone\n") == "This software can only support the maximum mind ir version: 1 | error: gone"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", ""),
        ("\n \n", ""),
        ("hello\nworld\na\nb\n", "world | a | b"),
        ("starting\nSegmentation fault\n", "Segmentation fault"),
        ("x" * 5000, "x" * 200),
        ("\x00\x01garbage \ufffd", "\x00\x01garbage \ufffd"),
    ],
)
def test_any_other_text(log, told):
    assert useful_lines(log) == told


def test_a_huge_log_is_read_from_both_ends():
    log = "error: the cause\n" + "noise\n" * 500_000 + "error: the end\n"
    assert useful_lines(log) == "error: the cause | error: the end"
