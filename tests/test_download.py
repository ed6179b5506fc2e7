"""Downloads from a real server on this machine that breaks off, lies, refuses and changes its files."""

from __future__ import annotations

import contextlib
import email.utils
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from web_site import Step

from msedge.download import download
from msedge.errors import ArtifactError, DownloadError

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = (np.random.default_rng(seed).bytes(1_000_000) for seed in (0, 1))
SUM = hashlib.sha256(OLD).hexdigest()
CUT = 600_000

pytestmark = pytest.mark.usefixtures("no_pauses")


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "file.bin"


@pytest.fixture
def partial(site, target):
    """600 kB of OLD lie in `target.part`: the server broke off and was not reachable after that."""
    site.serve("/f", OLD, steps=[Step(cut=CUT)] + [Step(503)] * 5)
    with pytest.raises(DownloadError, match="503") as e:
        download(f"{site.url}/f", target)
    assert "0.6 MB are kept and the next call goes on from there" in str(e.value)
    assert target.with_name("file.bin.part").read_bytes() == OLD[:CUT]
    site.seen.clear()
    site.files["/f"].steps.clear()
    return f"{site.url}/f"


def test_a_file_comes_whole_and_checked(site, target):
    assert download(site.serve("/f", OLD), target, sha256=SUM, size=len(OLD)) == target
    assert target.read_bytes() == OLD
    assert left_in(target.parent) == ["file.bin"]
    assert site.ranges == [None]


def test_what_is_there_is_not_fetched_again(site, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(site.serve("/f", OLD), target)
    assert (target.read_bytes(), site.seen) == (b"mine", [])


def test_progress_and_notices_come_to_the_caller(site, target):
    bars, reports, said = [], [], []

    @contextlib.contextmanager
    def progress(label, total):
        bars.append((label, total))
        yield reports.append

    url = site.serve("/f", OLD, steps=[Step(cut=CUT)])
    download(url, target, label="weights", say=said.append, progress=progress)
    assert bars == [("weights", len(OLD))]
    assert (reports[0], reports[-1]) == (0, len(OLD))
    assert reports == sorted(reports)
    assert CUT in reports
    assert said == ["weights: the connection broke after 0.6 MB of 1.0 MB from 127.0.0.1; trying again in 0 s"]


def test_a_broken_connection_is_taken_up_where_it_broke(site, target):
    download(site.serve("/f", OLD, steps=[Step(cut=CUT), Step(503)]), target, sha256=SUM)
    assert target.read_bytes() == OLD
    assert site.ranges == [None, f"bytes={CUT}-", f"bytes={CUT}-"]
    assert site.seen[-1].headers["If-Range"] == '"v1"'


def test_attempts_are_counted_anew_while_bytes_come(site, target):
    big = OLD * 4
    url = site.serve("/f", big, steps=[Step(cut=CUT) for _ in range(6)])
    download(url, target)
    assert target.read_bytes() == big


def test_a_server_that_always_breaks_at_the_same_byte_is_given_up(site, target):
    url = site.serve("/f", OLD, ranges=False, steps=[Step(cut=CUT) for _ in range(50)])
    with pytest.raises(DownloadError, match=r"the connection broke after 0\.6 MB"):
        download(url, target)
    assert len(site.seen) < 12


def test_the_next_call_goes_on(site, target, partial):
    download(partial, target, sha256=SUM)
    assert target.read_bytes() == OLD
    assert site.ranges == [f"bytes={CUT}-"]
    assert left_in(target.parent) == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_changed_file_is_not_glued_together(site, target, partial, ranges):
    site.serve("/f", NEW, version='"v2"', ranges=ranges)
    download(partial, target)
    assert target.read_bytes() == NEW
    assert site.ranges == [f"bytes={CUT}-"]  # If-Range: the server answers with the whole file at once


def test_a_changed_file_is_noticed_where_the_server_ignores_if_range(site, target, partial):
    site.serve("/f", NEW, version='"v2"')
    site.files["/f"].steps = [Step(206, {"Content-Range": f"bytes {CUT}-999999/1000000", "ETag": '"v2"'})]
    download(partial, target)
    assert target.read_bytes() == NEW
    assert site.ranges == [f"bytes={CUT}-", None]


def test_a_changed_file_of_the_same_version_fails_its_sum_and_comes_anew(site, target, partial):
    site.serve("/f", NEW)
    said = []
    download(partial, target, sha256=hashlib.sha256(NEW).hexdigest(), say=said.append)
    assert target.read_bytes() == NEW
    assert said == ["file.bin: the parts do not belong together; fetching it anew"]
    assert site.ranges == [f"bytes={CUT}-", None]


def test_without_a_version_and_a_sum_the_part_is_not_trusted(site, target, tmp_path):
    url = site.serve("/f", NEW, version=None)
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(OLD[:CUT])
    download(url, target)
    assert target.read_bytes() == NEW
    assert site.ranges == [None]


def test_without_a_version_a_whole_sum_is_enough_to_go_on(site, target):
    url = site.serve("/f", OLD, version=None)
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(OLD[:CUT])
    download(url, target, sha256=SUM)
    assert target.read_bytes() == OLD
    assert site.ranges == [f"bytes={CUT}-"]


def test_a_version_of_another_address_counts_for_nothing(site, target, partial):
    download(site.serve("/g", NEW), target)
    assert target.read_bytes() == NEW
    assert site.ranges == [None]


def test_an_answer_without_a_version_does_not_lose_the_one_of_the_part(site, target, partial):
    site.serve("/f", OLD, version=None, steps=[Step(cut=1000)])
    download(partial, target)
    assert target.read_bytes() == OLD
    assert site.ranges == [f"bytes={CUT}-", f"bytes={CUT + 1000}-"]


def test_a_content_range_that_was_not_asked_for_is_not_believed(site, target, partial):
    site.serve("/f", OLD, honest=False)
    download(partial, target, sha256=SUM)
    assert target.read_bytes() == OLD
    assert site.ranges == [f"bytes={CUT}-", None]


def test_a_part_that_is_longer_than_the_file_starts_anew(site, target, partial):
    site.serve("/f", OLD[:1000])
    download(partial, target)
    assert target.read_bytes() == OLD[:1000]


def test_a_part_that_is_complete_needs_no_network(site, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(OLD)
    download("http://127.0.0.1:9/f", target, sha256=SUM, size=len(OLD))
    assert target.read_bytes() == OLD


def test_a_complete_part_with_another_sum_comes_anew(site, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(NEW)
    download(site.serve("/f", OLD), target, sha256=SUM, size=len(OLD))
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("digits", [64, 8])
def test_another_sum_is_an_error_and_the_file_is_gone(site, target, digits):
    with pytest.raises(DownloadError, match=f"has the sha256 .* and should have {SUM[:8]}") as e:
        download(site.serve("/f", NEW), target, sha256=SUM[:digits])
    assert "\n" not in str(e.value)
    assert left_in(target.parent) == []
    assert len(site.seen) == 1


def test_the_first_digits_of_a_sum_are_compared(site, target):
    download(site.serve("/f", OLD), target, sha256=SUM[:8].upper())
    assert target.read_bytes() == OLD


def test_another_size_is_refused_before_the_body(site, target):
    with pytest.raises(DownloadError, match="has 1,000,000 bytes, not 7"):
        download(site.serve("/f", OLD), target, size=7)
    assert (len(site.seen), left_in(target.parent)) == (1, [])


def test_a_part_of_a_file_of_another_size_is_not_kept(site, target, partial):
    with pytest.raises(DownloadError, match="has 1,000,000 bytes, not 2,000,000") as e:
        download(partial, target, size=2_000_000)
    assert "kept" not in str(e.value)
    assert left_in(target.parent) == []


def test_a_body_of_unknown_length_is_checked_at_its_end(site, target):
    url = site.serve("/f", OLD, length=False)
    download(url, target, size=len(OLD))
    assert target.read_bytes() == OLD
    target.unlink()
    with pytest.raises(DownloadError, match=r"1,000,000 bytes came from 127\.0\.0\.1, not 1,000,001"):
        download(url, target, size=len(OLD) + 1)
    assert left_in(target.parent) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(site, target, status):
    with pytest.raises(DownloadError, match=f"file.bin: 127.0.0.1 answers {status} ") as e:
        download(site.serve("/f", OLD, steps=[Step(status)] * 9), target)
    assert e.value.status == status
    assert (len(site.seen), left_in(target.parent)) == (1, [])


def test_a_server_that_is_busy_is_asked_again_when_it_says(site, target):
    slept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", slept.append)
        date = email.utils.formatdate(time.time() + 7, usegmt=True)
        steps = [Step(429, {"Retry-After": "3"}), Step(503, {"Retry-After": date}), Step(502)]
        download(site.serve("/f", OLD, steps=steps), target)
    assert slept[0] == 3
    assert 5 < slept[1] <= 7
    assert slept[2] == 0
    assert target.read_bytes() == OLD


def test_a_server_that_asks_for_too_long_a_wait_is_given_up(site, target, monkeypatch):
    monkeypatch.setattr("msedge.download.LONGEST_WAIT", 0.5)
    url = site.serve("/f", OLD, steps=[Step(429, {"Retry-After": "1"})] * 9)
    with pytest.raises(DownloadError, match=r"answers 429 .*\(it asks to wait 1 s\)"):
        download(url, target)
    assert len(site.seen) == 1


def test_offline_is_one_clear_line_soon(target):
    said = []
    with pytest.raises(DownloadError, match=r"^file.bin: 127.0.0.1 cannot be reached: connection refused \(check the net") as e:
        download("http://127.0.0.1:9/f", target, say=said.append)
    assert e.value.status is None
    assert len(said) == 1
    assert left_in(target.parent) == []
    with pytest.raises(DownloadError, match=r"no\.such\.invalid cannot be reached: its name cannot be resolved"):
        download("https://no.such.invalid/f", target)


def test_silence_is_noticed(site, target, monkeypatch):
    monkeypatch.setattr("msedge.network.TIMEOUT", 0.3)
    hold = threading.Event()
    url = site.serve("/f", OLD, steps=[Step(hold=hold)])
    said = []
    download(url, target, say=said.append)
    hold.set()
    assert said == ["file.bin: nothing came for 0.3 s after 0.5 MB of 1.0 MB from 127.0.0.1; trying again in 0 s"]
    assert target.read_bytes() == OLD


CHILD = """
    import contextlib, sys
    from pathlib import Path
    from msedge.download import download
    @contextlib.contextmanager
    def progress(label, total):
        yield lambda done: print(done, flush=True)
    download(sys.argv[1], Path(sys.argv[2]), say=lambda text: print(text, file=sys.stderr), progress=progress)
"""


def child(url: str, target: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), url, str(target)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_is_taken_up_by_the_next(site, target, signal_number):
    hold = threading.Event()
    url = site.serve("/f", OLD, steps=[Step(hold=hold)])
    process = child(url, target)
    while int(process.stdout.readline()) < len(OLD) // 2:
        pass
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=10)
    hold.set()
    if signal_number == signal.SIGINT:
        assert stderr.startswith("file.bin: 0.5 MB are kept, the next call goes on from there\n")
    assert not target.exists()
    download(url, target, sha256=SUM)
    assert target.read_bytes() == OLD
    assert site.ranges == [None, f"bytes={len(OLD) // 2}-"]


def test_two_processes_fetch_a_file_once(site, target):
    hold = threading.Event()
    url = site.serve("/f", OLD, steps=[Step(hold=hold)])
    first = child(url, target)
    while int(first.stdout.readline()) < len(OLD) // 2:
        pass
    second = child(url, target)
    assert second.stderr.readline() == "file.bin: another process fetches it, waiting\n"
    hold.set()  # the first one's connection breaks; it takes it up after its pause
    assert [p.wait(20) for p in (first, second)] == [0, 0]
    for p in (first, second):
        p.communicate()
    assert target.read_bytes() == OLD
    assert site.ranges == [None, f"bytes={len(OLD) // 2}-"]
    assert left_in(target.parent) == ["file.bin"]


def test_a_part_that_another_process_gave_up_is_begun_anew(site, target):
    target.parent.mkdir()
    part = target.with_name("file.bin.part")
    with part.open("a+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        process = child(site.serve("/f", OLD), target)
        assert "waiting" in process.stderr.readline()
        part.unlink()
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (0, "")
    assert target.read_bytes() == OLD


def test_a_full_disk_is_named_before_and_amid_the_download(site, target, tiny_disk, monkeypatch):
    disk = tiny_disk(500)
    url = site.serve("/f", OLD)
    with pytest.raises(ArtifactError, match=r"not enough space for file.bin .*: 1.0 MB are needed"):
        download(url, disk / "file.bin")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**12}))
    with pytest.raises(ArtifactError, match="no space left on the disk") as e:
        download(url, disk / "file.bin")
    assert "MSEDGE_CACHE" in e.value.hint
    assert left_in(disk) == []


def test_a_folder_that_cannot_be_made_is_named(site, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        download(site.serve("/f", OLD), tmp_path / "cache" / "f")
    assert site.seen == []
