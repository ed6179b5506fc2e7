"""A result folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msedge.artifact import remove_tree, writing
from msedge.errors import ArtifactError


@contextlib.contextmanager
def staged_folder(out: Path, own_files: Iterable[str]) -> Iterator[Path]:
    """Yield a folder beside `out`; rename it to `out` when the block ends well, remove it when not.

    An `out` that exists is replaced if it holds nothing but `own_files`. Raises ArtifactError where it holds more or
    where the disk refuses.
    """
    check_replaceable(out, own_files)
    stage = out.with_name(f".{out.name}.{os.getpid()}.part")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        try:
            _create(stage, out)
            yield stage
            _sync(stage)
            _swap(stage, out)
        finally:
            remove_tree(stage)


def _remove_abandoned(out: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for path in out.parent.iterdir():
        name, _, rest = path.name.rpartition(f".{out.name}.")
        pid, _, kind = rest.partition(".")
        if not name and kind == "part" and pid.isdigit() and not _lives(int(pid)):
            remove_tree(path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()


def _create(stage: Path, out: Path) -> None:
    try:
        stage.mkdir()
    except FileNotFoundError:  # as /proc answers
        raise ArtifactError(f"cannot write {out}: no folder can be made in {out.parent}", "choose another --out") from None


def check_replaceable(out: Path, own_files: Iterable[str]) -> None:
    """Raise ArtifactError where replacing `out` would take away what is not ours."""
    hint = "choose another --out"
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise ArtifactError(f"cannot write {out}: a file of that name is in the way", hint)
    if os.path.ismount(out):
        raise ArtifactError(f"{out} is a mount point, which cannot be replaced as a whole", f"for example {out / 'out'}")
    with writing(out):
        strange = sorted({p.name for p in out.iterdir()} - set(own_files))
    if strange:
        raise ArtifactError(f"the folder {out} holds other files ({', '.join(strange[:3])})", hint)
    if out.resolve() == Path.cwd():
        raise ArtifactError(f"{out} is the current folder, which cannot be replaced", hint)


def _sync(stage: Path) -> None:
    for path in stage.iterdir():
        with path.open("rb") as f:
            os.fsync(f.fileno())


def _swap(stage: Path, out: Path) -> None:
    if not out.exists():
        stage.rename(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    try:
        stage.rename(out)
    except BaseException:
        old.rename(out)
        raise
    remove_tree(old)
