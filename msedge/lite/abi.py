"""The C++ ABI of the MindSpore Lite 2.0.0 libraries, driven through ctypes; the only module that knows it.

The wheel is pinned by its sha256, so mangled names and object layouts are fixed. What is relied upon (Itanium C++ ABI,
libstdc++ with the old copy-on-write strings, x86-64 System V and AAPCS64):

* `std::vector` is three pointers (begin, end, end of storage), `std::shared_ptr` two (object, control block), an old
  `std::string` one (to its characters), and `std::function` is 16 bytes of storage, a manager and an invoker.
* A class that is not trivially copyable is returned through a hidden pointer: on x86-64 the first argument, before
  `this`; on aarch64 register x8. A ctypes Structure of more than 16 bytes as result type makes libffi do the right
  thing on both, whatever the real size (the callee writes only its own bytes).
* `mindspore::Status` and `MSTensor` are one shared_ptr each. A Status without data means success; else its data begin
  with the code.

Runs inside the worker process on the standard library alone and on any Python from 3.7. Errors are `LiteError`; a C++
exception or a damaged library ends the process, which the client reports. Objects are never destroyed: the worker
leaves with `os._exit`.
"""

import ctypes as C
import os
import time

CONVERTER_LIBRARY = "libmindspore_converter.so"
RUNTIME_LIBRARY = "libmindspore-extendrt_python.so"
VERSION = "2.0.0"

_FMK = {"ONNX": 2, "MINDIR": 3}
_MODEL_TYPE_LITE = 4
_DTYPES = {30: "bool", 32: "int8", 33: "int16", 34: "int32", 35: "int64", 37: "uint8"}
_DTYPES.update({38: "uint16", 39: "uint32", 40: "uint64", 42: "float16", 43: "float32", 44: "float64"})
_FORMATS = {0: "NCHW", 1: "NHWC"}
_COPY_FUNCTION = 2  # the std::function manager's "clone" operation

_PREDICT = "_ZN9mindspore5Model7PredictERKSt6vectorINS_8MSTensorESaIS2_EEPS4_RKSt8functionIFbS6_S6_RKNS_15MSCallBackParamEEESF_"
_BUILD = "_ZN9mindspore5Model5BuildERKSt6vectorIcSaIcEENS_9ModelTypeERKSt10shared_ptrINS_7ContextEE"
_CONVERT = "_ZN9mindspore9Converter7ConvertENS_9converter7FmkTypeERKSt6vectorIcSaIcEES7_S7_"


class LiteError(Exception):
    """The library refused: not loadable, of another version, or a call returned a failing status."""


class _Vector(C.Structure):
    _fields_ = [("begin", C.c_void_p), ("end", C.c_void_p), ("storage_end", C.c_void_p)]

    def items(self, size):
        """Addresses of the elements, `size` bytes each."""
        return range(self.begin, self.end, size) if self.begin else range(0)


class _Shared(C.Structure):
    _fields_ = [("object", C.c_void_p), ("control", C.c_void_p)]


class _Control(C.Structure):
    """A shared_ptr's control block; its counts never reach zero, so its missing virtual functions are not called."""

    _fields_ = [("vtable", C.c_void_p), ("uses", C.c_int), ("weak", C.c_int)]


class _Function(C.Structure):
    _fields_ = [("storage", C.c_uint64 * 2), ("manager", C.c_void_p), ("invoker", C.c_void_p)]


class _Returned(C.Structure):
    """Any class returned by value, seen as raw words; see the module's text."""

    _fields_ = [("words", C.c_void_p * 4)]


_MANAGER = C.CFUNCTYPE(C.c_bool, C.c_void_p, C.c_void_p, C.c_int)
_INVOKER = C.CFUNCTYPE(C.c_bool, C.c_void_p, C.c_void_p, C.c_void_p, C.c_void_p)


@_MANAGER
def _manage(destination, source, operation):
    if operation == _COPY_FUNCTION:
        C.memmove(destination, source, 16)
    return False


class _Library:
    def __init__(self, folder, name):
        path = os.path.join(folder, name)  # noqa: PTH118 (pathlib is a slow import)
        try:
            self._dll = C.CDLL(path, mode=C.RTLD_GLOBAL)
        except OSError as e:
            raise LiteError(f"the library cannot be loaded: {e}") from None
        self._libc = C.CDLL(None)
        self._libc.malloc.restype = C.c_void_p
        self._libc.malloc.argtypes = [C.c_size_t]
        self._libc.free.argtypes = [C.c_void_p]
        self._alive = []  # memory that C++ objects refer to
        version = self.chars(self.call("_ZN9mindspore11CharVersionEv", returns=_Returned))
        if version and VERSION not in version:  # the runtime library of 2.0.0 leaves it empty
            raise LiteError(f"the library says that it is {version!r}, not version {VERSION}")

    def symbol(self, name):
        try:
            return getattr(self._dll, name)
        except AttributeError:
            raise LiteError(f"the library is not version {VERSION}: it lacks {name}") from None

    def call(self, name, *arguments, returns=None):
        function = self.symbol(name)
        function.restype = returns
        return function(*arguments)

    def checked(self, name, *arguments):
        """Call a function that returns Status; raises LiteError with the status code unless it is success."""
        data = self.call(name, *arguments, returns=_Returned).words[0]
        code = C.c_uint32.from_address(data).value if data else 0
        if code:
            raise LiteError(f"status {code:#010x}")

    def new(self, constructor):
        """Construct an object; 256 bytes hold any of the classes used here."""
        memory = self.keep(C.create_string_buffer(256))
        self.call(constructor, memory)
        return memory

    def keep(self, thing):
        self._alive.append(thing)
        return thing

    def allocate(self, size):
        """Memory that C++ may free."""
        return self._libc.malloc(max(size, 1))

    def free(self, address):
        self._libc.free(address)

    def control(self):
        return C.addressof(self.keep(_Control(None, 1 << 20, 1 << 20)))

    def char_vector(self, text):
        """A `std::vector<char>` by reference; the bytes stay ours."""
        data = text.encode()
        start = C.addressof(self.keep(C.create_string_buffer(data)))
        return C.byref(self.keep(_Vector(start, start + len(data), start + len(data))))

    def chars(self, returned):
        """The text of a returned `std::vector<char>`."""
        begin, end = returned.words[0], returned.words[1]
        return C.string_at(begin, end - begin).decode(errors="replace") if begin else ""


def convert(folder, source, output_stem, fmk, config_path="", fp16_weights=False):
    """Convert `source` to `output_stem + ".ms"`; returns the seconds taken. Raises LiteError."""
    library = _Library(folder, CONVERTER_LIBRARY)
    converter = library.new("_ZN9mindspore9ConverterC1Ev")
    library.call("_ZN9mindspore9Converter11SetSaveTypeENS_9ModelTypeE", converter, C.c_uint32(_MODEL_TYPE_LITE))
    if fp16_weights:
        library.call("_ZN9mindspore9Converter13SetWeightFp16Eb", converter, C.c_bool(True))
    if config_path:
        set_config = "_ZN9mindspore9Converter13SetConfigFileERKSt6vectorIcSaIcEE"
        library.call(set_config, converter, library.char_vector(config_path))
    paths = [library.char_vector(p) for p in (source, output_stem, "")]  # the last is Caffe's weight file
    started = time.perf_counter()
    library.checked(_CONVERT, converter, C.c_uint32(_FMK[fmk]), *paths)
    return time.perf_counter() - started


class Model:
    """A `.ms` loaded by the runtime on CPU. Tensors are described as dicts: name, shape, dtype, format."""

    def __init__(self, folder, path, threads):
        self._library = library = _Library(folder, RUNTIME_LIBRARY)
        context = library.new("_ZN9mindspore7ContextC1Ev")
        library.call("_ZN9mindspore7Context12SetThreadNumEi", context, C.c_int(threads))
        self._add_cpu(context)
        self._model = library.new("_ZN9mindspore5ModelC1Ev")
        shared_context = library.keep(_Shared(C.addressof(context), library.control()))
        library.checked(
            _BUILD,
            self._model,
            library.char_vector(path),
            C.c_uint32(_MODEL_TYPE_LITE),
            C.byref(shared_context),
        )
        self._inputs = self._tensors("_ZN9mindspore5Model9GetInputsEv")
        self.inputs = [self._describe(t) for t in self._inputs.items(16)]
        self.outputs = [self._describe(t) for t in self._tensors("_ZN9mindspore5Model10GetOutputsEv").items(16)]

    def _add_cpu(self, context):
        """`context.MutableDeviceInfo() = {make_shared<CPUDeviceInfo>()}`; its constructor is inline, so done by hand."""
        library = self._library
        device = library.new("_ZN9mindspore17DeviceInfoContextC2Ev")
        address, control = C.addressof(device), library.control()
        vtable = C.addressof(C.c_char.in_dll(library._dll, "_ZTVN9mindspore13CPUDeviceInfoE"))
        words = (C.c_void_p * 3).from_address(address)
        words[0] = vtable + 16  # after the offset to top and the type info
        words[1], words[2] = address, control  # enable_shared_from_this
        element = library.allocate(16)
        C.memmove(element, C.byref(_Shared(address, control)), 16)
        get = "_ZN9mindspore7Context17MutableDeviceInfoEv"
        devices = _Vector.from_address(library.call(get, context, returns=C.c_void_p))
        devices.begin, devices.end, devices.storage_end = element, element + 16, element + 16

    def _tensors(self, getter):
        returned = self._library.call(getter, self._model, returns=_Returned)
        return _Vector(*returned.words[:3])

    def _describe(self, tensor):
        call, this = self._library.call, C.c_void_p(tensor)
        dtype = call("_ZNK9mindspore8MSTensor8DataTypeEv", this, returns=C.c_int)
        layout = call("_ZNK9mindspore8MSTensor6formatEv", this, returns=C.c_int)
        shape = _Vector.from_address(call("_ZNK9mindspore8MSTensor5ShapeEv", this, returns=C.c_void_p))
        return {
            "name": self._library.chars(call("_ZNK9mindspore8MSTensor8CharNameEv", this, returns=_Returned)),
            "shape": [C.c_int64.from_address(d).value for d in shape.items(8)],
            "dtype": _DTYPES.get(dtype, f"type{dtype}"),
            "format": _FORMATS.get(layout, str(layout)),
        }

    def _bytes(self, tensor):
        """A tensor's memory, in place."""
        size = self._library.call("_ZNK9mindspore8MSTensor8DataSizeEv", C.c_void_p(tensor), returns=C.c_size_t)
        data = self._library.call("_ZN9mindspore8MSTensor11MutableDataEv", C.c_void_p(tensor), returns=C.c_void_p)
        if size and not data:
            raise LiteError(f"the runtime gives no memory for a tensor of {size} bytes")
        return (C.c_char * size).from_address(data) if size else b""

    def set_inputs(self, arrays):
        """Copy raw bytes into the model's inputs. Raises LiteError if a size differs."""
        for tensor, data in zip(self._inputs.items(16), arrays):  # noqa: B905 (Python 3.7)
            memory = self._bytes(tensor)
            if len(memory) != len(data):
                raise LiteError(f"an input has {len(data)} bytes, the model wants {len(memory)}")
            C.memmove(memory, data, len(data))

    def _predict(self, before, after, emit):
        outputs = _Vector()
        arguments = [self._model, C.byref(self._inputs), C.byref(outputs), C.byref(before), C.byref(after)]
        started = time.perf_counter()
        self._library.checked(_PREDICT, *arguments)
        seconds = time.perf_counter() - started
        for tensor in outputs.items(16):
            emit(self._describe(tensor), self._bytes(tensor))
            self._library.call("_ZN9mindspore8MSTensorD1Ev", C.c_void_p(tensor))
        self._library.free(outputs.begin)
        return seconds

    def predict(self, emit):
        """Run once; `emit(description, memory)` is called per output while it lives. Returns seconds in Predict."""
        return self._predict(_Function(), _Function(), emit)

    def trace(self, emit_node, emit_output):
        """Run once; `emit_node(name, type, seconds)` is called after every node, then `emit_output`, if any, per output."""
        started = [0.0]
        errors = []

        @_INVOKER
        def before(_storage, _inputs, _outputs, _node):
            started[0] = time.perf_counter()
            return True

        @_INVOKER
        def after(_storage, _inputs, outputs, node):
            seconds = time.perf_counter() - started[0]
            try:  # an exception must not pass through C++
                name, kind = (C.string_at(p).decode(errors="replace") for p in (C.c_void_p * 2).from_address(node))
                emit_node(name, kind, seconds)
                for tensor in _Vector.from_address(outputs).items(16) if emit_output else ():
                    emit_output(self._describe(tensor), self._bytes(tensor))
            except BaseException as e:
                errors.append(e)
                return False
            return True

        def function(invoker):
            manager, invoker = C.cast(_manage, C.c_void_p), C.cast(invoker, C.c_void_p)
            return _Function((C.c_uint64 * 2)(), manager, invoker)

        try:
            seconds = self._predict(function(before), function(after), lambda description, data: None)
        except LiteError:
            if errors:
                raise errors[0] from None
            raise
        if errors:
            raise errors[0]
        return seconds
