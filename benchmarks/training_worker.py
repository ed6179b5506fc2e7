"""One contender of `training.py` in a process of its own: it takes a training step whenever a line comes on stdin.

A step is forward, cross entropy, backward and an AdamW update with real-shaped batches. First line out: seconds of the first
step (it holds the compilation). Then for each line in, the seconds of that step.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

SWIN = {"embed_dim": 48, "depths": [2, 2, 4, 2], "num_heads": [3, 6, 12, 24], "window_size": 4, "drop_path_rate": 0.0}
CLASSES = 2


def arrays(size: int, batch: int):
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, size, size)).astype(np.float32)
    return images, rng.integers(0, CLASSES, batch).astype(np.int32)


def msedge_model(name: str, size: int):
    from msedge.models import create_model

    if name != "swin_nano":
        return create_model(name, CLASSES, size)
    dims = [SWIN["embed_dim"] << i for i in range(4)]
    widths = {
        "dim": dims,
        "heads": [[h] * n for h, n in zip(SWIN["num_heads"], SWIN["depths"], strict=True)],
        "head_dim": [[16] * n for n in SWIN["depths"]],
        "mlp": [[4 * d] * n for d, n in zip(dims, SWIN["depths"], strict=True)],
        "window": SWIN["window_size"],
    }
    return create_model(name, CLASSES, size, **widths)


def msedge(name: str, size: int, batch: int, loading: bool):
    """The step that `msedge train` runs; with `loading` on batches that its loader makes of JPEG files."""
    from msedge.mindspore_setup import load_mindspore

    ms = load_mindspore()

    import numpy as np

    from msedge.models.layers import state
    from msedge.recipe import TrainConfig
    from msedge.training.step import TrainStep
    from msedge.training.tasks import Classify

    ms.set_context(mode=ms.GRAPH_MODE)
    model = msedge_model(name, size).set_train(True)
    step = TrainStep(Classify(model, 0.0), [p for p in state(model).values() if p.requires_grad], TrainConfig())
    images, labels = arrays(size, batch)
    fixed = images, np.eye(CLASSES, dtype=np.float32)[labels]
    batches = loaded(size, batch) if loading else itertools.repeat(fixed)
    count = itertools.count(1)
    return lambda: step.run(1e-3, next(count), *next(batches))


def quantised(name: str, size: int, batch: int):
    """The step of quantisation-aware training in int8: the float model answers first, then the rounded one learns."""
    from msedge.mindspore_setup import load_mindspore

    ms = load_mindspore()

    import numpy as np

    from msedge.models import spec_of
    from msedge.quantization.cell import GraphCell
    from msedge.quantization.ptq import PtqSettings, make_plan
    from msedge.quantization.qat_graphs import Graphs
    from msedge.recipe import DistillConfig, TrainConfig
    from msedge.training.evaluate import Evaluator
    from msedge.training.step import TrainStep
    from msedge.training.tasks import DistillLogits

    ms.set_context(mode=ms.GRAPH_MODE)
    teacher = msedge_model(name, size)
    graphs = Graphs.export(teacher, spec_of(teacher, ("a", "b")), batch)
    images, labels = arrays(size, batch)
    graph, plan = make_plan(graphs.single, images, PtqSettings(activations="minmax", weights="minmax"))
    model = GraphCell(graphs.batched_like(graph), plan, learn=True).set_train(True)
    learned = [p for p in model.get_parameters() if p.requires_grad]
    step = TrainStep(DistillLogits(model, DistillConfig(temperature=1.0, alpha=0.0), 0.0), learned, TrainConfig())
    evaluator, targets, count = Evaluator(teacher), np.eye(CLASSES, dtype=np.float32)[labels], itertools.count(1)
    return lambda: step.run(1e-5, next(count), images, targets, evaluator.logits(images))


def loaded(size: int, batch: int):
    """Endless training batches of JPEG files, augmented as the default recipe says."""
    import cv2
    import numpy as np

    from msedge.data.batches import TrainBatches
    from msedge.data.folder import Samples
    from msedge.data.preprocess import Preprocess
    from msedge.recipe import DataConfig

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = tuple(Path(folder) / f"{i}.jpg" for i in range(8 * batch))
        for path in paths:
            small = rng.integers(0, 255, (12, 12, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(small, (size * 3 // 2, size * 5 // 4), interpolation=cv2.INTER_CUBIC))
        labels = np.arange(len(paths), dtype=np.int32) % CLASSES
        samples = Samples(Path(folder), "train", paths, labels, ("a", "b"))
        stream = TrainBatches(samples, Preprocess(size), DataConfig(batch_size=batch), size=size, seed=0)
        for epoch in itertools.count():
            for made in stream.epoch(epoch):
                yield made.images, made.targets


def mindcv(name: str, size: int, batch: int):
    from msedge.mindspore_setup import load_mindspore

    ms = load_mindspore()
    from mindspore import Tensor, nn, ops

    from msedge.models import create_model

    if name == "swin_nano":
        from mindcv.models.swintransformer import SwinTransformer

        model = SwinTransformer(image_size=size, num_classes=CLASSES, **SWIN)
    else:
        model = create_model({"mobilevit_xxs": "mindcv:mobilevit_xx_small"}[name], CLASSES, size)

    class Loss(nn.Cell):
        def __init__(self, model):
            super().__init__(auto_prefix=False)
            self.model = model
            self.entropy = nn.CrossEntropyLoss()

        def construct(self, images, labels):
            return self.entropy(self.model(images), labels)

    class Step(nn.Cell):
        def __init__(self, loss):
            super().__init__(auto_prefix=False)
            self.optimizer = nn.AdamWeightDecay(loss.trainable_params(), 1e-3, weight_decay=0.05)
            self.gradients = ops.value_and_grad(loss, None, self.optimizer.parameters)

        def construct(self, images, labels):
            loss, gradients = self.gradients(images, labels)
            self.optimizer(gradients)
            return loss

    ms.set_context(mode=ms.GRAPH_MODE)
    step = Step(Loss(model).set_train(True)).set_train(True)
    images, labels = (Tensor(a) for a in arrays(size, batch))
    return lambda: float(step(images, labels).asnumpy())


class NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """timm imports torchvision for its data pipeline and for names that models never use: empty stand-ins will do."""

    class Module(types.ModuleType):
        __path__ = ()

        def __getattr__(self, name: str):
            if name.startswith("__"):
                raise AttributeError(name)
            return NoTorchvision.Named(name, (), {})

    class Named(type):
        def __getattr__(cls, name: str):
            if name.startswith("__"):
                raise AttributeError(name)
            return name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return self.Module(spec.name)

    def exec_module(self, module):
        pass


def timm(name: str, size: int, batch: int):
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(NoTorchvision())
    import timm
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    if name == "swin_nano":
        from timm.models.swin_transformer import SwinTransformer

        model = SwinTransformer(img_size=size, num_classes=CLASSES, **SWIN)
    else:
        model = timm.create_model({"tiny_vit_5m": "tiny_vit_5m_224"}.get(name, name), num_classes=CLASSES)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    images, labels = (torch.from_numpy(a) for a in arrays(size, batch))
    labels = labels.long()

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["msedge", "loading", "qat", "mindcv", "timm"])
    parser.add_argument("model")
    parser.add_argument("size", type=int)
    parser.add_argument("batch", type=int)
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)
    if args.kind in ("msedge", "loading"):
        step = msedge(args.model, args.size, args.batch, args.kind == "loading")
    elif args.kind == "qat":
        step = quantised(args.model, args.size, args.batch)
    else:
        step = {"mindcv": mindcv, "timm": timm}[args.kind](args.model, args.size, args.batch)

    def timed() -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    print(json.dumps(timed()), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed()), file=answers, flush=True)
    os._exit(0)  # MindSpore is long in taking itself down


if __name__ == "__main__":
    main()
