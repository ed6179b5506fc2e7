"""The wheel from a package index on this machine: found by pip, fetched directly, taken up after a break."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from web_site import Step

from msedge.errors import ToolFailed, ToolMissing
from msedge.lite.wheel import Wheel, obtain_wheel

NAME = "mindspore_lite-2.0.0-cp37-cp37m-manylinux1_x86_64.whl"

pytestmark = pytest.mark.usefixtures("no_pauses")


def wheel_bytes() -> bytes:
    buffer, information = io.BytesIO(), "mindspore_lite-2.0.0.dist-info"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mindspore_lite/data", np.random.default_rng(0).bytes(2_000_000))
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: mindspore-lite\nVersion: 2.0.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp37-cp37m-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return buffer.getvalue()


CONTENT = wheel_bytes()
WHEEL = Wheel(NAME, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), ("--platform", "manylinux1_x86_64"))
CUT = 900_000


class Index:
    """A package index with one wheel."""

    def __init__(self, site, content: bytes = CONTENT, link: str = f"../../files/{NAME}"):
        self.site = site
        page = f'<!DOCTYPE html><html><body><a href="/files/other.whl">other</a><br><a href="{link}">{NAME}</a></body></html>'
        site.serve("/simple/mindspore-lite/", page.encode(), headers={"Content-Type": "text/html"})
        site.serve(f"/files/{NAME}", content)
        self.wheel = site.files[f"/files/{NAME}"]

    @property
    def fetched(self) -> list[tuple[str, str | None]]:
        """Who asked for the wheel (the first word of its name), and for which bytes of it."""
        return [(s.headers["User-Agent"].split("/")[0], s.range) for s in self.site.seen if s.path.endswith(".whl")]


@pytest.fixture(autouse=True)
def pip(site, monkeypatch):
    """pip with no configuration but this index."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")


def left_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def obtain(folder: Path, seen: list | None = None) -> Path:
    return obtain_wheel(WHEEL, folder, lambda *step: seen is None or seen.append(step))


def test_pip_finds_it_and_the_download_is_ours(site, tmp_path):
    index, seen = Index(site), []
    path = obtain(tmp_path, seen)
    assert path.read_bytes() == CONTENT
    assert index.fetched == [("msedge", None)]
    assert (seen[0], seen[-1]) == (("download", 0, len(CONTENT)), ("download", len(CONTENT), len(CONTENT)))
    assert left_in(tmp_path) == ["download", f"download/{NAME}"]
    assert obtain(tmp_path) == path  # a finished download is taken as it is
    assert len(index.fetched) == 1


def test_after_a_break_the_next_install_goes_on(site, tmp_path):
    index = Index(site)
    index.wheel.steps = [Step(cut=CUT)] + [Step(503)] * 5
    with pytest.raises(ToolMissing, match=r"could not be downloaded: wheel: .*0\.9 MB are kept and the next call goes on"):
        obtain(tmp_path)
    index.wheel.steps.clear()
    site.seen.clear()
    assert obtain(tmp_path).read_bytes() == CONTENT
    assert index.fetched == [("msedge", f"bytes={CUT}-")]


def test_after_ctrl_c_the_next_install_goes_on(site, tmp_path):
    index = Index(site)

    def interrupt(step, done, total):
        if done > CUT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain_wheel(WHEEL, tmp_path, interrupt)
    assert left_in(tmp_path) == ["download", f"download/{NAME}.part", f"download/{NAME}.part.json"]
    obtain(tmp_path)
    (_, first), (_, second) = index.fetched
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > CUT


@pytest.mark.parametrize("checksum", [WHEEL.sha256, hashlib.sha256(b"another").hexdigest()])
def test_the_sum_in_the_index_is_believed(site, tmp_path, checksum):
    index = Index(site, link=f"/files/{NAME}#sha256={checksum}")
    if checksum == WHEEL.sha256:
        assert obtain(tmp_path).read_bytes() == CONTENT
        assert index.fetched == [("msedge", None)]
        return
    with pytest.raises(ToolMissing, match="could not be downloaded"):
        obtain(tmp_path)
    assert {who for who, _ in index.fetched} == {"pip"}


def test_a_server_that_refuses_us_leaves_the_download_to_pip(site, tmp_path):
    index = Index(site)
    index.wheel.steps = [Step(403)]
    assert obtain(tmp_path).read_bytes() == CONTENT
    assert [who for who, _ in index.fetched] == ["msedge", "pip"]


def test_another_content_is_refused(site, tmp_path):
    index = Index(site, content=CONTENT[:-1] + b"?")
    with pytest.raises(ToolFailed, match="is not the pinned one"):
        obtain(tmp_path)
    assert [who for who, _ in index.fetched] == ["msedge", "pip"]
    assert left_in(tmp_path) == []


def test_a_wheel_beside_the_index_leaves_the_download_to_pip(site, tmp_path, monkeypatch):
    index = Index(site)
    site.serve("/flat", site.files["/simple/mindspore-lite/"].content, headers={"Content-Type": "text/html"})
    site.serve("/none/mindspore-lite/", b"<html></html>", headers={"Content-Type": "text/html"})
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/none")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{site.url}/flat")
    assert obtain(tmp_path).read_bytes() == CONTENT
    assert index.fetched == [("pip", None)]


def test_an_index_with_a_password_leaves_the_download_to_pip(site, tmp_path, monkeypatch):
    Index(site)
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url.replace('//', '//me:word@')}/simple")
    assert obtain(tmp_path).read_bytes() == CONTENT
    assert {s.headers["User-Agent"].split("/")[0] for s in site.seen} == {"pip"}


def test_without_an_index_none_is_asked(site, tmp_path, monkeypatch):
    index = Index(site)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ToolMissing):
        obtain(tmp_path)
    assert (index.fetched, site.seen) == ([], [])
