"""Folders that say what made them: atomic writes, sha256, `manifest.json`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from msedge.errors import ArtifactError

MANIFEST = "manifest.json"
_RECORDED_TOOLS = ("msedge", "mindspore", "mindcv", "onnx", "onnxruntime", "numpy", "opencv-python")


def cache_dir() -> Path:
    """The user's cache folder: `MSEDGE_CACHE`, or `msedge` below `XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("MSEDGE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msedge"


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256_stream(f)


def _sha256_stream(f) -> str:
    digest = hashlib.sha256()
    while block := f.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write below `where` into one clear ArtifactError."""
    try:
        yield
    except OSError as e:
        reasons = {
            errno.ENOSPC: ("no space left on the disk", "free some space or choose another --out"),
            errno.EDQUOT: ("the disk quota is used up", "free some space or choose another --out"),
            errno.EACCES: ("permission denied", "choose an --out that you may write to"),
            errno.EPERM: ("not permitted", "choose an --out that you may write to"),
            errno.EROFS: ("the file system is read-only", "choose an --out that you may write to"),
            errno.ENOTDIR: ("a part of the path is a file", "choose another --out"),
            errno.ENOENT: ("its folder has vanished", "choose another --out"),
            errno.EEXIST: ("a file of that name is in the way", "choose another --out"),
            errno.EISDIR: ("a folder of that name is in the way", "choose another --out"),
        }
        if e.errno not in reasons:
            raise
        reason, hint = reasons[e.errno]
        raise ArtifactError(f"cannot write {where}: {reason}", hint) from e


def make_dir(path: Path) -> Path:
    """Create `path` and prove that files can be written there, before hours of work depend on it."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; rename it when the block ends well, remove it when not.

    Nothing half-written is ever seen under the final name. Raises ArtifactError where the disk refuses.
    """
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part{final.suffix}")
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as f:
                os.fsync(f.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON document; `what` names it in the error for a missing or damaged file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{what} is missing: {path}") from None
    except (OSError, ValueError) as e:
        raise ArtifactError(f"{what} cannot be read: {path}: {e}") from e


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def tool_versions() -> dict[str, str]:
    versions = {}
    for name in _RECORDED_TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def write_manifest(
    folder: Path,
    kind: str,
    files: Iterable[str],
    *,
    parents: dict[str, str] | None = None,
    recipe_sha256: str | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Write `folder/manifest.json`: kind, files with sha256 and size, parents (name to sha256), tool versions."""
    manifest = {
        "kind": kind,
        "files": {name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size} for name in files},
        "parents": parents or {},
        "recipe_sha256": recipe_sha256,
        "tools": tool_versions(),
        **extra,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read a folder's manifest; raises ArtifactError if it is missing, damaged, or of another kind."""
    manifest = read_json(folder / MANIFEST, f"the manifest of {folder}")
    if manifest.get("kind") != kind:
        raise ArtifactError(f"{folder} is a {manifest.get('kind')} folder", f"a {kind} folder is needed here")
    return manifest
