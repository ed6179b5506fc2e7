"""Images to class names and probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msedge.data.folder import load_flat
from msedge.data.images import read_image
from msedge.errors import DataError, ModelError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.runtime.base import Runner
from msedge.runtime.preparation import class_names_of, preprocess_for

_CHUNK = 32


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, folders as the images below them. Raises DataError for a folder without images."""
    files = []
    for path in paths:
        files += load_flat(path) if path.is_dir() else [path]
    return files


def classify(
    runner: Runner, paths: Sequence[Path], *, top: int = 3, say: Say = silent, progress: Progress = no_progress
) -> list[dict[str, Any]]:
    """For each image `{image, top: [{class, index, probability}]}`, or `{image, error}` where it cannot be read.

    Probabilities are the softmax of the model's outputs. Raises ModelError where the model is no classifier.
    """
    preprocess = preprocess_for(runner, say=say)
    answers: list[dict[str, Any]] = []
    with progress("classifying", len(paths)) as report:
        for start in range(0, len(paths), _CHUNK):
            chunk = []
            for path in paths[start : start + _CHUNK]:
                answer: dict[str, Any] = {"image": str(path)}
                answers.append(answer)
                try:
                    chunk.append((answer, preprocess(read_image(path))))
                except DataError as e:
                    answer["error"] = str(e)
            if chunk:
                logits = runner.predict(np.stack([x for _, x in chunk]))
                for (answer, _), best in zip(chunk, _best(runner, logits, top), strict=True):
                    answer["top"] = best
            report(len(answers))
    return answers


def _best(runner: Runner, logits: np.ndarray, top: int) -> list[list[dict[str, Any]]]:
    if logits.ndim != 2:
        raise ModelError(f"{runner.name} gives {list(logits.shape[1:])} for an image, it is no classifier")
    names = class_names_of(runner, logits.shape[1])
    return [
        [{"class": names[i], "index": int(i), "probability": float(row[i])} for i in np.argsort(-row, kind="stable")[:top]]
        for row in softmax(logits)
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows [N, C] to probabilities, float64. Raises ModelError where an output is not finite."""
    if not np.isfinite(logits).all():
        raise ModelError("the model gives outputs that are not finite")
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
