import json
import subprocess
import sys

import cv2
import pytest
from click.testing import CliRunner

from msedge.cli.data import data
from msedge.errors import DataError


@pytest.fixture
def run():
    def call(*args: str):
        result = CliRunner().invoke(data, list(map(str, args)))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_make_check_and_sheet(run, tmp_path):
    out = tmp_path / "set"
    made = run("make", out, "--train", 40, "--val", 4, "--size", 64, "--seed", 2, "--sheet", tmp_path / "a.png", "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout)["drawn"] is True
    assert "drawn" in made.stderr
    assert cv2.imread(str(tmp_path / "a.png")).shape == (4 * 128, 10 * 128, 3)
    checked = run("check", out, "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["images"] == 44
    table = run("check", out)
    assert table.exit_code == 0
    assert "nothing to complain about" in table.stdout
    assert run("sheet", out, tmp_path / "b.png", "--images", 5).exit_code == 0
    assert cv2.imread(str(tmp_path / "b.png")).shape == (128, 1280, 3)


def test_check_exits_with_1_for_serious_problems(run, make_folder):
    root = make_folder({"train/a": 20, "train/b": 20, "val/a": 2, "val/b": 2})
    (root / "train/a/000.png").write_bytes(b"broken")
    result = run("check", root)
    assert result.exit_code == 1
    assert "unreadable: train/a/000.png" in result.stdout
    document = run("check", root, "--json")
    assert document.exit_code == 1
    assert json.loads(document.stdout)["ok"] is False


def test_mistakes_are_data_errors(run, tmp_path):
    with pytest.raises(DataError, match="missing"):
        run("check", tmp_path / "none")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(DataError, match="exists already"):
        run("make", tmp_path / "used")
    assert run("make", tmp_path / "x", "--train", "one").exit_code == 2


def test_help_loads_nothing_heavy():
    code = (
        "import sys, msedge.data, msedge.cli.data; "
        "print([m for m in ('cv2', 'numpy', 'mindspore', 'rich') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_package_never_loads_mindspore_by_itself():
    code = (
        "import sys; from msedge.data import audit, batches, calib, drawn, folder, preprocess, scan, sheet; "
        "import msedge.data.drawn.dataset; print('mindspore' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
