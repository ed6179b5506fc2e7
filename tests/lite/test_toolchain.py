"""The order in which toolchains are looked for, and what is remembered of them."""

from __future__ import annotations

import importlib.machinery
import json
import shutil

import pytest

from msedge.errors import ToolFailed, ToolMissing
from msedge.lite import LiteModel, find_toolchain, toolchain
from msedge.lite.install import RECORD, check_copy, read_copy

pytestmark = pytest.mark.lite


@pytest.fixture
def cache(monkeypatch, tmp_path, own_copy):
    """A cache of the test's own with msedge's copy in it (links to the real one's libraries, a record of its own)."""
    folder = tmp_path / "cache" / "lite" / own_copy.name
    (folder / "lib").mkdir(parents=True)
    for path in (own_copy / "lib").iterdir():
        (folder / "lib" / path.name).symlink_to(path)
    shutil.copy(own_copy / RECORD, folder / RECORD)
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MSEDGE_LITE", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("MSEDGE_LITE", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path / "empty"


def test_the_own_copy_is_found_at_once_and_its_record_believed(cache, monkeypatch):
    monkeypatch.setattr(toolchain, "probe", lambda *a, **k: pytest.fail("the record has the answer"))
    found = find_toolchain()
    assert (found.info.kind, found.info.location) == ("native", cache)


def test_nothing_found_and_nothing_allowed(empty_cache, small_ms):
    with pytest.raises(ToolMissing, match="no working MindSpore Lite toolchain") as caught:
        find_toolchain(install=False)
    assert "msedge lite install" in caught.value.hint
    for place in ("--lite", "MSEDGE_LITE", "mindspore_lite", "converter_lite", str(empty_cache)):
        assert place in caught.value.message


def test_nothing_found_is_installed_after_saying_so(empty_cache, monkeypatch, own_copy):
    said = []
    monkeypatch.setattr(toolchain.installer, "install", lambda: own_copy if said else pytest.fail("nothing was said before"))
    assert find_toolchain(say=said.append).info.location == own_copy
    assert "2.0.0" in said[0] and "160 MB" in said[0] and str(empty_cache) in said[0]


def test_the_variable_goes_before_the_own_copy_and_the_flag_before_both(cache, monkeypatch, own_copy, tmp_path):
    monkeypatch.setenv("MSEDGE_LITE", str(own_copy / "lib"))
    assert find_toolchain().info.location == own_copy / "lib"
    assert find_toolchain(str(own_copy)).info.location == own_copy
    monkeypatch.setenv("MSEDGE_LITE", str(tmp_path / "gone"))
    with pytest.raises(ToolMissing, match="MSEDGE_LITE names a toolchain that is missing"):
        find_toolchain()
    with pytest.raises(ToolMissing, match="MSEDGE_LITE"):
        LiteModel(tmp_path / "any.ms")


@pytest.mark.parametrize("what", ["file", "folder", "text"])
def test_a_named_toolchain_that_is_none_is_refused(cache, tmp_path, what):
    place = tmp_path / "place"
    if what == "folder":
        place.mkdir()
    else:
        place.write_text("nothing" if what == "text" else "")
        place.chmod(0o755)
    with pytest.raises(ToolMissing, match="--lite names") as caught:
        find_toolchain(str(place))
    assert str(place) in caught.value.message


def test_unpacked_libraries_are_probed_once(cache, own_copy, tmp_path, monkeypatch):
    libraries = tmp_path / "mindspore_lite" / "lib"
    libraries.mkdir(parents=True)
    for path in (own_copy / "lib").iterdir():
        (libraries / path.name).symlink_to(path)
    first = find_toolchain(str(tmp_path))
    assert first.info.abilities["full_quant"] is True
    real = toolchain.probe
    monkeypatch.setattr(toolchain, "probe", lambda *a, **k: pytest.fail("it was probed before"))
    assert find_toolchain(str(tmp_path)).info == first.info

    calls = []
    monkeypatch.setattr(toolchain, "probe", lambda *a, **k: calls.append(1) or real(*a, **k))
    store = next((tmp_path / "cache" / "lite" / "probes").iterdir())
    store.write_text("{ damaged")
    assert find_toolchain(str(tmp_path)).info == first.info
    changed = libraries / "libmindspore_converter.so"
    target = changed.resolve()
    changed.unlink()
    shutil.copyfile(target, changed)
    assert find_toolchain(str(tmp_path)).info == first.info
    assert len(calls) == 2  # once for the damaged answer, once for the changed library


def test_a_damaged_copy_is_told_and_replaced(cache, monkeypatch, own_copy):
    library = cache / "lib" / "libmindspore_core.so"
    library.unlink()
    library.write_bytes(b"\x7fELF cut")
    with pytest.raises(ToolFailed, match="damaged"):
        read_copy(cache)
    with pytest.raises(ToolMissing, match="damaged") as caught:
        find_toolchain(install=False)
    assert str(cache) in caught.value.message
    said = []
    monkeypatch.setattr(toolchain.installer, "install", lambda: own_copy)
    assert find_toolchain(say=said.append).info.kind == "native"
    assert "damaged" in said[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": 3}', '{"files": {}, "abilities": 1}'])
def test_a_damaged_record_counts_as_damage(cache, text):
    (cache / RECORD).write_text(text)
    with pytest.raises(ToolFailed, match="damaged"):
        read_copy(cache)


def test_content_is_checked_against_the_record(cache):
    assert check_copy(cache) == []
    record = json.loads((cache / RECORD).read_text())
    record["files"]["lib/libmindspore_glog.so.0"]["sha256"] = "0" * 64
    (cache / RECORD).write_text(json.dumps(record))
    assert check_copy(cache) == ["lib/libmindspore_glog.so.0"]


def test_a_broken_module_in_this_interpreter_is_passed_over_with_a_word(cache, tmp_path, monkeypatch):
    package = tmp_path / "site" / "mindspore_lite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('built for another Python')\n")
    (package / "version.py").write_text("__version__ = '2.9.9'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    real = importlib.util.find_spec
    fake = importlib.machinery.ModuleSpec("mindspore_lite", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: fake if name == "mindspore_lite" else real(name, *a))
    said = []
    assert find_toolchain(say=said.append).info.kind == "native"
    assert "built for another Python" in said[0]
