"""Audit an image folder: balance, damaged and odd files, sizes, duplicates within and across splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msedge.data.duplicates import near_groups
from msedge.data.examine import Examined, examine_all
from msedge.data.folder import class_names, image_files, resolve_root, split_folders
from msedge.data.images import SUFFIXES

NEAR_DISTANCE = 6  # differing bits of the 64-bit perceptual hash that still count as the same picture
_FEW_PER_CLASS = 20
_UNBALANCED = 3.0


@dataclass(frozen=True)
class Verdict:
    level: str  # error (the set should not be used as it is), warning, ok
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Duplicates:
    kind: str  # same (bytes), near (picture)
    files: tuple[str, ...]  # relative to the root
    across_splits: bool
    differing_labels: bool


@dataclass
class AuditReport:
    root: Path
    counts: dict[str, dict[str, int]]  # split: class: images; the one split of a folder without splits is 'all'
    bad: list[tuple[str, str]] = field(default_factory=list)  # file, reason
    odd: list[tuple[str, str]] = field(default_factory=list)  # file, what is unusual; they are usable
    ignored: int = 0  # files that are no images by their suffix
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)  # width, height: min, median, max in pixels
    duplicates: list[Duplicates] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no verdict is an error."""
        return not any(v.level == "error" for v in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "ok": self.ok,
            "images": sum(sum(c.values()) for c in self.counts.values()),
            "counts": self.counts,
            "bad": [{"file": f, "reason": r} for f, r in self.bad],
            "odd": [{"file": f, "note": n} for f, n in self.odd],
            "ignored_files": self.ignored,
            "sizes": self.sizes,
            "duplicates": [
                {
                    "kind": d.kind,
                    "files": list(d.files),
                    "across_splits": d.across_splits,
                    "differing_labels": d.differing_labels,
                }
                for d in self.duplicates
            ],
            "verdicts": [{"level": v.level, "text": v.text, "advice": v.advice} for v in self.verdicts],
        }


def audit(root: Path | str, progress: Callable[[int, int], None] | None = None) -> AuditReport:
    """Examine every image below `root` (train/ and val/ with class folders, or class folders).

    Raises DataError where there is no image folder to speak of; everything else is in the report.
    """
    folder = resolve_root(root)
    train, val = split_folders(folder)
    bases = {"train": train, "val": val} if train and val else {"all": train or val or folder}
    places: dict[Path, tuple[str, str]] = {}
    counts: dict[str, dict[str, int]] = {}
    ignored = 0
    for split, base in bases.items():
        counts[split] = {}
        for name in class_names(base, at_least=1):
            files = image_files(base / name)
            counts[split][name] = len(files)
            places.update(dict.fromkeys(files, (split, name)))
        ignored += sum(p.is_file() and p.suffix.lower() not in SUFFIXES for p in base.rglob("[!.]*"))
    found = examine_all(list(places), progress)
    good = [e for e in found if not e.problem]
    report = AuditReport(
        folder,
        counts,
        bad=[(_name(e.path, folder), e.problem) for e in found if e.problem],
        odd=[(_name(e.path, folder), e.note) for e in good if e.note],
        ignored=ignored,
        sizes={side: _spread([getattr(e, side) for e in good]) for side in ("width", "height")} if good else {},
        duplicates=_duplicates(good, places, folder),
    )
    report.verdicts = [*_count_verdicts(report), *_file_verdicts(report), *_duplicate_verdicts(report)]
    if all(v.level == "ok" for v in report.verdicts):
        report.verdicts = [Verdict("ok", "nothing to complain about")]
    return report


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _spread(values: list[int]) -> dict[str, int]:
    return {"min": min(values), "median": int(np.median(values)), "max": max(values)}


def _duplicates(good: list[Examined], places: dict[Path, tuple[str, str]], root: Path) -> list[Duplicates]:
    same: dict[str, list[Examined]] = {}
    for e in good:
        same.setdefault(e.sha256, []).append(e)
    groups = [("same", members) for members in same.values() if len(members) > 1]
    firsts = [members[0] for members in same.values() if members[0].phash is not None]
    near = near_groups([e.phash for e in firsts if e.phash is not None], NEAR_DISTANCE)
    groups += [("near", [other for i in group for other in same[firsts[i].sha256]]) for group in near]
    return [
        Duplicates(
            kind,
            tuple(_name(e.path, root) for e in members),
            across_splits=len({places[e.path][0] for e in members}) > 1,
            differing_labels=len({places[e.path][1] for e in members}) > 1,
        )
        for kind, members in groups
    ]


def _count_verdicts(report: AuditReport) -> Iterable[Verdict]:
    for split, counts in report.counts.items():
        where = "" if split == "all" else f"{split}: "
        if len(counts) < 2:
            yield Verdict("error", f"{where}only one class ('{next(iter(counts))}')", "add a folder for each class")
        if empty := [name for name, n in counts.items() if not n]:
            yield Verdict("error", f"{where}no image in class '{empty[0]}'", "add images or remove the folder")
            continue
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        ratio = counts[most] / counts[fewest]
        if ratio > _UNBALANCED:
            text = f"{where}'{most}' has {ratio:.1f} times as many images as '{fewest}'"
            yield Verdict("warning", text, "add images of the small classes")
        if split != "val" and counts[fewest] < _FEW_PER_CLASS:
            yield Verdict("warning", f"{where}only {counts[fewest]} images of '{fewest}'", "add images, or expect little")
    if len(report.counts) == 2:
        train, val = report.counts["train"], report.counts["val"]
        if strange := sorted(set(train) ^ set(val)):
            missing = "val" if strange[0] in train else "train"
            yield Verdict("error", f"class '{strange[0]}' is missing in {missing}/", "both need the same class folders")


def _file_verdicts(report: AuditReport) -> Iterable[Verdict]:
    if report.bad:
        text = f"{len(report.bad)} unreadable: {report.bad[0][0]}: {report.bad[0][1]}"
        yield Verdict("error", text, "replace or delete them; training leaves them out")
    if report.odd:
        text = f"{len(report.odd)} unusual but usable: {report.odd[0][0]}: {report.odd[0][1]}"
        yield Verdict("ok", text, "look at them if they are many")
    if report.ignored:
        yield Verdict("ok", f"{report.ignored} files are no images by their suffix and are not used")


def _duplicate_verdicts(report: AuditReport) -> Iterable[Verdict]:
    def found(**wanted: Any) -> list[Duplicates]:
        return [d for d in report.duplicates if all(getattr(d, k) == v for k, v in wanted.items())]

    def text(groups: list[Duplicates], what: str) -> str:
        return f"{len(groups)} {what}: {' = '.join(groups[0].files[:3])}"

    if groups := found(across_splits=True):
        yield Verdict("error", text(groups, "pictures both in train and val"), "remove them from one: the score is too good")
    if groups := found(kind="same", differing_labels=True):
        yield Verdict("error", text(groups, "pictures under two labels"), "keep the right one")
    if groups := found(kind="near", differing_labels=True):
        yield Verdict("warning", text(groups, "almost equal pictures under two labels"), "look at them")
    if rest := found(across_splits=False, differing_labels=False):
        split = "all" in report.counts
        advice = "keep one of each" + ("; the random split can put them on both sides" if split else "")
        yield Verdict("warning", text(rest, "repeated or almost equal pictures"), advice)
