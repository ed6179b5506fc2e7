"""Teachers: a checkpoint folder, or an ONNX file run by onnxruntime. Both see the student's augmented images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from msedge.artifact import sha256_file
from msedge.data.opencv import cv2
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, ModelError
from msedge.models import load_checkpoint_folder
from msedge.models.spec import ModelSpec
from msedge.training.evaluate import Evaluator


class CellTeacher:
    """A MindSpore checkpoint folder. `cell` is there for features and attention."""

    def __init__(self, folder: Path):
        self.cell, self.spec = load_checkpoint_folder(folder)
        self.cell.set_train(False)
        self.cell.set_grad(False)
        for p in self.cell.get_parameters():
            p.requires_grad = False
        self.name = self.spec.architecture
        self.classes = self.spec.classes
        self.num_classes = self.spec.num_classes
        self.preprocess = self.spec.preprocess
        self.sha256 = sha256_file(folder / "best.ckpt")
        self._evaluator = Evaluator(self.cell)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Float32 NCHW in the teacher's own preprocessing to float32 [N, C]."""
        return self._evaluator.logits(images)


class OnnxTeacher:
    """An ONNX classifier with one float32 NCHW input and logits [N, C] as its first output.

    Preprocessing and class names come from the `msedge.model` metadata; without it, ImageNet mean and std are assumed.
    """

    cell = None

    def __init__(self, path: Path):
        import onnxruntime as ort

        if not path.is_file():
            raise ArtifactError(f"there is no ONNX file {path}", "set teacher.onnx to a file")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as e:
            raise ModelError(f"onnxruntime cannot load {path}: {str(e).splitlines()[0]}") from None
        (self._input, *others) = self._session.get_inputs()
        shape, out = self._input.shape, self._session.get_outputs()[0].shape
        if others or len(shape) != 4 or len(out) != 2 or not isinstance(shape[2], int) or not isinstance(out[1], int):
            raise ModelError(f"{path} is no image classifier: it maps {shape} to {out}", "one [N,3,H,W] to one [N,C]")
        self.name = path.name
        self.num_classes = out[1]
        metadata = self._session.get_modelmeta().custom_metadata_map
        spec = ModelSpec.from_dict(json.loads(metadata["msedge.model"])) if "msedge.model" in metadata else None
        self.classes = spec.classes if spec else ()
        self.preprocess = spec.preprocess if spec else Preprocess(size=shape[2])
        self.sha256 = sha256_file(path)
        self._batch = shape[0] if isinstance(shape[0], int) else None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Float32 NCHW in the teacher's own preprocessing to float32 [N, C]."""
        size = self._batch or len(images)
        padding = -len(images) % size
        if padding:
            images = np.concatenate([images, images[:1].repeat(padding, 0)])
        parts = [self._session.run(None, {self._input.name: images[i : i + size]})[0] for i in range(0, len(images), size)]
        return np.concatenate(parts)[: len(images) - padding].astype(np.float32)


Teacher = CellTeacher | OnnxTeacher


def check_classes(teacher: Teacher, classes: tuple[str, ...]) -> None:
    """Raise ModelError unless the teacher decides between the same classes in the same order."""
    if teacher.num_classes != len(classes):
        raise ModelError(
            f"the teacher {teacher.name} knows {teacher.num_classes} classes, the data has {len(classes)}",
            "train the teacher on the same classes first",
        )
    if teacher.classes and tuple(teacher.classes) != tuple(classes):
        raise ModelError(
            f"the teacher {teacher.name} has the classes {', '.join(teacher.classes)}, the data has {', '.join(classes)}",
            "names and order must be the same",
        )


def adapt(images: np.ndarray, own: Preprocess, its: Preprocess) -> np.ndarray:
    """Bring images [N, C, H, W] normalised by `own` to the size and normalisation of `its`."""
    if own.channel_order != its.channel_order:
        images = images[:, ::-1]
    a, b = (
        np.float32(own.std) / np.float32(its.std),
        (np.float32(own.mean) - np.float32(its.mean)) / np.float32(its.std),
    )
    if not (np.allclose(a, 1) and np.allclose(b, 0)):
        images = images * a[:, None, None] + b[:, None, None]
    if images.shape[-1] != its.size:
        hwc = (cv2.resize(np.ascontiguousarray(x.transpose(1, 2, 0)), (its.size, its.size)) for x in images)
        images = np.stack([x.transpose(2, 0, 1) for x in hwc])
    return np.ascontiguousarray(images, np.float32)
