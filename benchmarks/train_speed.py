"""Images per second of one training step, msedge's MobileViT-XXS beside MindCV's, interleaved.

    python benchmarks/train_speed.py [--size 128] [--batch 32] [--rounds 5] [--model NAME ...] [--json]

A step is forward, cross entropy, backward and an AdamW update in one compiled graph. Each contender lives in a process
of its own (oneDNN reads its limit once) that compiles first and then runs one step whenever it is told to, so that the
contenders take turns and a busy machine slows all of them. `default` is MindCV as it comes, without the limit to AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

CONTENDERS = {
    "msedge": ("mobilevit_xxs", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "mindcv": ("mindcv:mobilevit_xx_small", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "mindcv default": ("mindcv:mobilevit_xx_small", {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}),
}


def work(name: str, size: int, batch: int) -> None:
    """A contender: compile, then one step for each line on stdin, answered with its seconds."""
    import numpy as np

    from msedge.mindspore_setup import load_mindspore

    ms = load_mindspore()
    from mindspore import Tensor, nn, ops

    from msedge.models import create_model

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
    loss = Loss(create_model(name, 2, size)).set_train(True)
    step = Step(loss).set_train(True)
    rng = np.random.default_rng(0)
    images = Tensor(rng.standard_normal((batch, 3, size, size)).astype(np.float32))
    labels = Tensor(rng.integers(0, 2, batch).astype(np.int32))

    def run() -> float:
        began = time.perf_counter()
        step(images, labels).asnumpy()
        return time.perf_counter() - began

    print(json.dumps(run()), flush=True)
    run()
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), flush=True)
    sys.stdout.flush()
    os._exit(0)


class Contender:
    def __init__(self, name: str, environment: dict[str, str], size: int, batch: int):
        command = [sys.executable, __file__, "--work", name, "--size", str(size), "--batch", str(batch)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        self.seconds: list[float] = []
        self.first = self._answer()
        self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a contender died; run it alone with --work to see why")
        return json.loads(line)

    def step(self) -> None:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.seconds.append(self._answer())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", action="append", default=[], help="another model, under the limit to AVX2")
    parser.add_argument("--skip-default", action="store_true", help="leave out MindCV as it comes (slow)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.size, args.batch)
    chosen = {k: v for k, v in CONTENDERS.items() if not (args.skip_default and k == "mindcv default")}
    chosen |= {name: (name, {"ONEDNN_MAX_CPU_ISA": "AVX2"}) for name in args.model}
    contenders = {k: Contender(name, env, args.size, args.batch) for k, (name, env) in chosen.items()}
    loads = []
    for _ in range(args.rounds):
        for contender in contenders.values():
            contender.step()
        loads.append(os.getloadavg()[0])
    rows = []
    for key, contender in contenders.items():
        contender.close()
        median = statistics.median(contender.seconds)
        rows.append(
            {
                "contender": key,
                "model": chosen[key][0],
                "images_per_s": round(args.batch / median, 1),
                "best_images_per_s": round(args.batch / min(contender.seconds), 1),
                "step_ms": [round(1e3 * s) for s in contender.seconds],
                "first_step_s": round(contender.first, 1),
            }
        )
    note = {
        "size": args.size,
        "batch": args.batch,
        "rounds": args.rounds,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": [round(v, 1) for v in loads],
    }
    if args.json:
        print(json.dumps({"note": note, "rows": rows}, indent=2))
        return
    print(", ".join(f"{k} {v}" for k, v in note.items()))
    for row in rows:
        print(
            f"{row['contender']:16} {row['images_per_s']:8} images/s (best {row['best_images_per_s']}),"
            f" first step {row['first_step_s']} s, steps ms {row['step_ms']}"
        )


if __name__ == "__main__":
    main()
