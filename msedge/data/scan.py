"""Decode every image once before training, so that no file can stop a run in mid-epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msedge.artifact import cache_dir, read_json, write_json
from msedge.data.examine import examine_all
from msedge.data.folder import Samples
from msedge.errors import ArtifactError, DataError

_VERSION = 1  # raise when other files would be refused


@dataclass(frozen=True)
class ScanReport:
    good: Samples
    bad: tuple[tuple[Path, str], ...]  # (file, why it is left out)


def scan(samples: Samples, progress: Callable[[int, int], None] | None = None) -> ScanReport:
    """Tell readable from unreadable images; the answer is kept in the user cache under the samples' fingerprint.

    `progress(done, total)` is called after each file that is decoded. Raises DataError if a class loses all images.
    """
    cached = cache_dir() / "scan" / f"{samples.fingerprint()}-{_VERSION}.json"
    reasons = _cached(cached, samples)
    if reasons is None:
        found = examine_all(samples.paths, progress)
        reasons = {i: e.problem for i, e in enumerate(found) if e.problem}
        with contextlib.suppress(ArtifactError, OSError):  # the cache may be read-only or full: then scan again next time
            write_json(cached, {"images": len(samples), "bad": {str(i): reason for i, reason in reasons.items()}})
    good = samples.pick([i for i in range(len(samples)) if i not in reasons])
    bad = tuple((samples.paths[i], reason) for i, reason in sorted(reasons.items()))
    for name, left in good.counts().items():
        if not left and samples.counts()[name]:
            path, reason = next((p, r) for (p, r), i in zip(bad, sorted(reasons), strict=True) if _named(samples, i, name))
            raise DataError(
                f"{samples.root}: no readable {samples.split} image of class '{name}' (such as {path.name}: {reason})",
                "replace the damaged files",
            )
    return ScanReport(good, bad)


def _named(samples: Samples, i: int, name: str) -> bool:
    return samples.classes[samples.labels[i]] == name


def _cached(path: Path, samples: Samples) -> dict[int, str] | None:
    try:
        document = read_json(path, "the cached scan")
        if document["images"] != len(samples):
            return None
        return {int(i): str(reason) for i, reason in document["bad"].items()}
    except (ArtifactError, KeyError, TypeError, ValueError, AttributeError):
        return None
