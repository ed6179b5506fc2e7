"""The process that hosts one MindSpore Lite library.

    python worker.py BACKEND ROLE FOLDER REQUESTS REPLIES TENSORS

BACKEND is `abi` (FOLDER holds the shared libraries) or `pyworker` (this interpreter can import `mindspore_lite`). ROLE
is `convert` or `run`, never both: the two libraries abort in one process. The last three are inherited descriptors.

One JSON object a line: requests `{"op": ...}` come in, each gets one reply, `{"ok": true, ...}` or
`{"ok": false, "error": ...}`. Tensors lie in the TENSORS file: `[offset, bytes]` in a request, a description with
`offset` and `bytes` in a reply. The C++ libraries print on stdout and stderr, which the client keeps as the log.

Standard library only, any Python from 3.7; it never imports msedge.
"""

import ctypes
import json
import os
import sys


class Tensors:
    """The file through which tensors travel; what a request brought may be overwritten by its reply."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._end = 0

    def read(self, place):
        offset, size = place
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise ValueError("the tensor file is too short")
        return data

    def rewind(self):
        self._end = 0

    def write(self, description, data):
        start, view = self._end, memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._descriptor, view, self._end)
            self._end += written
            view = view[written:]
        return dict(description, offset=start, bytes=self._end - start)


class Runner:
    def __init__(self, backend, folder, tensors):
        self._backend, self._folder, self._tensors = backend, folder, tensors
        self._model = None

    def load(self, path, threads):
        self._model = self._backend.Model(self._folder, path, threads)
        return {"inputs": self._model.inputs, "outputs": self._model.outputs}

    def _feed(self, inputs):
        self._model.set_inputs([self._tensors.read(place) for place in inputs])
        self._tensors.rewind()

    def predict(self, inputs):
        self._feed(inputs)
        outputs = []
        seconds = self._model.predict(lambda d, data: outputs.append(self._tensors.write(d, data)))
        return {"seconds": seconds, "outputs": outputs}

    def trace(self, inputs, keep_outputs):
        self._feed(inputs)
        nodes = []

        def node(name, kind, seconds):
            nodes.append({"name": name, "type": kind, "seconds": seconds, "outputs": []})

        def output(description, data):
            nodes[-1]["outputs"].append(self._tensors.write(description, data))

        return {"seconds": self._model.trace(node, output if keep_outputs else None), "nodes": nodes}


class Converter:
    def __init__(self, backend, folder):
        self._backend, self._folder = backend, folder

    def convert(self, **request):
        return {"seconds": self._backend.convert(self._folder, **request)}


def serve(backend, role, folder, requests, replies, tensors):
    host = Converter(backend, folder) if role == "convert" else Runner(backend, folder, Tensors(tensors))
    allowed = {"convert"} if role == "convert" else {"load", "predict", "trace"}
    flush = ctypes.CDLL(None).fflush

    def send(message):
        flush(None)  # what the library printed belongs to the log before the answer
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()

    send({"ok": True, "python": sys.version.split()[0], "version": backend.VERSION})
    for line in requests:
        request = json.loads(line.decode())
        op = request.pop("op")
        try:
            if op not in allowed:
                raise ValueError(f"a {role} worker has no {op!r}")
            send(dict(getattr(host, op)(**request), ok=True))
        except Exception as e:
            send({"ok": False, "error": str(e) or repr(e), "kind": type(e).__name__})


def main():
    backend_name, role, folder = sys.argv[1:4]
    requests, replies, tensors = (int(a) for a in sys.argv[4:7])
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is a slow import)
    sys.path[:] = [here] + [p for p in sys.path if p != here]
    backend = __import__(backend_name)
    del sys.path[0]  # the names of msedge's modules must not hide those of mindspore_lite's
    with open(requests, "rb") as incoming, open(replies, "wb") as outgoing:  # noqa: PTH123
        serve(backend, role, folder, incoming, outgoing, tensors)
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except BaseException as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
        os._exit(1)
