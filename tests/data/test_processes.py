import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msedge.data import headers
from msedge.data.processes import WorkerDied, call_in_processes

HERE = Path(__file__).parents[2]


def children() -> set[str]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not listed.exists():
        pytest.skip("needs Linux")
    return {c for task in Path("/proc/self/task").iterdir() for c in (task / "children").read_text().split()}


def test_results_in_order_from_a_function_of_the_package():
    items = [b"GIF89a", b"", b"plain text"]
    found = list(call_in_processes(headers.read_header, items, workers=2))
    assert found == [(item, headers.read_header(item)) for item in items]
    assert not children()


def test_exceptions_come_back():
    with pytest.raises(AttributeError):
        list(call_in_processes(headers.read_header, [3], workers=1))
    assert not children()


def test_a_death_costs_one_item():
    found = list(call_in_processes(eval, ["1", "__import__('os')._exit(3)", "2 + 2"], workers=1))
    assert [result for _, result in found[::2]] == [1, 4]
    assert isinstance(found[1][1], WorkerDied)
    assert not children()


def test_a_script_without_main_guard_works(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from msedge.data.processes import call_in_processes\n"
        "print([r for _, r in call_in_processes(len, ['a', 'bcd'], workers=2)])\n"
    )
    out = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert out.stdout.strip() == "[1, 3]", out.stderr


def test_leaving_early_leaves_no_process():
    results = call_in_processes(time.sleep, [0.01] * 50, workers=2)
    next(results)
    assert children()
    results.close()
    assert not children()


def test_prints_do_not_get_between_the_answers(capfd):
    assert list(call_in_processes(print, ["hello"], workers=1)) == [("hello", None)]
    assert capfd.readouterr() == ("", "hello\n")
