"""The process that one model is timed in: JSON lines on two descriptors, given as arguments."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from msedge.errors import MsedgeError
from msedge.runtime import Runner, open_runner
from msedge.runtime.preparation import preprocess_for


def sample_input(runner: Runner, image: str | None) -> np.ndarray:
    """float32 [batch, 3, H, W]: the prepared image, or seeded noise as normalised pixels have it."""
    batch = runner.input_shape[0] or 1
    if image:
        return np.repeat(preprocess_for(runner).batch([Path(image)]), batch, axis=0)
    _, channels, height, width = runner.input_shape
    shape = (batch, channels or 3, height or 224, width or 224)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def deviation(runner: Runner, golden: str) -> dict[str, float]:
    """`max_abs`, the largest difference from the logits of a `golden.npz` on its inputs, and `scale`, the largest logit."""
    with np.load(golden) as stored:
        inputs, logits = stored["inputs"], stored["logits"]
    return {"max_abs": float(np.abs(runner.predict(inputs) - logits).max()), "scale": float(np.abs(logits).max())}


def serve(requests, answers, open_runner: Callable[..., Runner] = open_runner) -> None:
    """Answer requests until there are no more; `open_runner(path, threads=, runtime=)` loads the model."""
    runner = x = None
    for line in requests:
        request = json.loads(line)
        try:
            if request["op"] == "open":
                runner = open_runner(request["path"], threads=request["threads"], runtime=request["runtime"])
                x = sample_input(runner, request["image"])
                runner.predict(x)
                answer = {}
            elif request["op"] == "run":
                answer = {"ms": [runner.timed(x)[1] for _ in range(request["times"])]}
            elif request["op"] == "deviation":
                answer = deviation(runner, request["golden"])
            else:
                answer = {"peak_rss_mb": runner.peak_rss_mb, "size_bytes": runner.size_bytes}
        except MsedgeError as e:
            answer = {"error": type(e).__name__, "message": e.message, "hint": e.hint}
        except Exception as e:
            answer = {"error": "ToolFailed", "message": f"{type(e).__name__}: {e}", "hint": ""}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(descriptors: Sequence[str], open_runner: Callable[..., Runner] = open_runner) -> None:
    """Serve two descriptors, then leave without running the destructors of the runtime's thread pools."""
    with os.fdopen(int(descriptors[0])) as incoming, os.fdopen(int(descriptors[1]), "w") as outgoing:
        serve(incoming, outgoing, open_runner)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
