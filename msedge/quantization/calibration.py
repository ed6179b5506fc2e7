"""One pass over the calibration images in onnxruntime: every tensor of interest goes to whoever wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from msedge.errors import DataError
from msedge.progress import Progress, no_progress
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan

See = Callable[[np.ndarray], None]


def calibrate(
    graph: ModelGraph, images: np.ndarray, see: Mapping[str, See], progress: Progress = no_progress, plan: Plan | None = None
) -> None:
    """Run the model over float32 [N, 3, H, W] and call see[tensor](values) for each image, in float or by a plan.

    Raises DataError where the images cannot calibrate (`check_images`), or where a tensor is not finite.
    """
    for index, tensors in enumerate(activations(graph, images, tuple(see), progress, plan)):
        for name, values in tensors.items():
            if not np.isfinite(values).all():
                what = "NaN" if np.isnan(values).any() else "infinite numbers"
                raise DataError(f"the tensor {name!r} has {what} for calibration image {index + 1}", "are the weights sound?")
            see[name](values)


def activations(
    graph: ModelGraph, images: np.ndarray, names: Sequence[str], progress: Progress = no_progress, plan: Plan | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """The named tensors for each image, one image at a time in memory."""
    check_images(images)
    simulation = Simulation(graph)
    with progress("calibrate", len(images)) as report:
        for done, image in enumerate(images, 1):
            yield simulation.tensors(image[None], names, plan)
            report(done)


def check_images(images: np.ndarray) -> None:
    """Raise DataError where there is no image, one has numbers that are not finite, or all are of one colour each."""
    if not len(images):
        raise DataError("there are no calibration images", "give at least one; 64 to 256 are usual")
    flat = images.reshape(*images.shape[:2], -1)
    if len(bad := np.flatnonzero(~np.isfinite(flat).all((1, 2)))):
        what = "NaN" if np.isnan(images[bad[0]]).any() else "infinite numbers"
        raise DataError(f"calibration image {bad[0] + 1} of {len(images)} has {what}", "check the image and its preprocessing")
    if (flat.min(2) == flat.max(2)).all():
        what = "the calibration image is" if len(images) == 1 else f"all {len(images)} calibration images are"
        raise DataError(f"{what} of one colour: no range can be learned", "use photos like those that the model will see")
