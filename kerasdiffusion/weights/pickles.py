"""The pickles of PyTorch's checkpoints, interpreted and never run.

A pickle is a program that calls what it names. `Interpreter` follows only the opcodes
that build data, knows by name the few functions that make tensors, and puts a
`Placeholder` where any other class or function would be called.

Reference:
    Python's `pickletools.py` for the opcodes; PyTorch's `torch/serialization.py` and
    `torch/_utils.py` for storages and the functions that make tensors.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights.base import WeightsError

MAX_PICKLE = 32 * 2**20

DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
STORAGES = {
    "DoubleStorage": DTYPES["float64"],
    "FloatStorage": DTYPES["float32"],
    "HalfStorage": DTYPES["float16"],
    "BFloat16Storage": DTYPES["bfloat16"],
    "LongStorage": DTYPES["int64"],
    "IntStorage": DTYPES["int32"],
    "ShortStorage": DTYPES["int16"],
    "CharStorage": DTYPES["int8"],
    "ByteStorage": DTYPES["uint8"],
    "BoolStorage": DTYPES["bool"],
    "UntypedStorage": DTYPES["uint8"],
}

# No checkpoint has a reason to name these (`getattr` is not among them: Lightning's
# do). Nothing would be called without this list either: it only turns an attack into
# an error rather than a shrug.
DANGEROUS_MODULES = frozenset(
    "bdb code codeop commands ctypes importlib marshal nt os pdb pickle pip posix "
    "pty runpy shutil socket subprocess sys timeit webbrowser".split()
)
#: Packages whose names tensors and dicts of them are made with.
TENSORS_OWN = ("torch", "collections", "numpy", "_codecs")
DANGEROUS_BUILTINS = frozenset(
    "__import__ breakpoint compile delattr eval exec execfile exit globals input "
    "locals open quit setattr vars".split()
)


class Name(NamedTuple):
    """A class or function that the pickle names."""

    module: str
    name: str


class Placeholder:
    """Stands for an object that is not a tensor; takes state and forgets it."""


class _Parameters(dict):
    """PyTorch's `ParameterDict`, in which textual inversions came first."""


class Storage(NamedTuple):
    """The raw values that tensors are views of."""

    key: str
    dtype: np.dtype
    count: int
    offset: int = 0  # of a view into another storage (legacy files), in values


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count values."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """Where a tuple, list or dict under construction begins on the stack."""


class Interpreter:
    """Follows one pickle and returns the data that it describes.

    Args:
        file: A binary stream at the start of the pickle; left behind its end.
        path: The file, for messages.
    """

    def __init__(self, file, path: Path):
        self.file, self.path = file, path
        self.stack: list = []
        self.memo: dict = {}
        self.storages: dict[str, Storage] = {}
        #: Classes and functions of others that it names: it holds more than tensors.
        self.strangers: list[str] = []

    def run(self):
        """The pickle's value."""
        start = self.file.tell()
        try:
            for opcode, argument, position in pickletools.genops(self.file):
                if position is not None and position - start > MAX_PICKLE:
                    raise WeightsError(
                        f"The pickle of a checkpoint has at most {MAX_PICKLE} bytes. "
                        f"Received: {self.path}"
                    )
                if opcode.name == "STOP":
                    return self._pop()
                self._step(opcode.name, argument)
        except WeightsError:
            raise
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise WeightsError(
                f"The checkpoint's pickle is damaged, or the file is no checkpoint "
                f"({type(error).__name__}: {shown(str(error))}). Received: {self.path}"
            ) from error
        raise WeightsError(f"The checkpoint's pickle has no end. Received: {self.path}")

    def _step(self, opcode: str, argument) -> None:
        stack = self.stack
        if opcode in ("PROTO", "FRAME"):
            return
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode == "MARK":
            stack.append(_Mark)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif opcode == "POP":
            stack.pop()
        elif opcode == "POP_MARK":
            self._pop_to_mark()
        elif opcode == "DUP":
            stack.append(stack[-1])
        elif opcode == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [self._pop() for _ in range(int(opcode[-1]))]
            stack.append(tuple(reversed(items)))
        elif opcode == "LIST":
            stack.append(self._pop_to_mark())
        elif opcode == "DICT":
            items = self._pop_to_mark()
            stack.append({})
            self._set_items(items)
        elif opcode == "APPEND":
            self._append([self._pop()])
        elif opcode in ("APPENDS", "ADDITEMS"):
            self._append(self._pop_to_mark())
        elif opcode == "SETITEM":
            value, key = self._pop(), self._pop()
            self._set_items([key, value])
        elif opcode == "SETITEMS":
            self._set_items(self._pop_to_mark())
        elif opcode == "GLOBAL":
            stack.append(self._name(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            name, module = self._pop(), self._pop()
            stack.append(self._name(module, name))
        elif opcode in ("REDUCE", "NEWOBJ"):
            arguments, function = self._pop(), self._pop()
            stack.append(self._call(function, arguments))
        elif opcode == "NEWOBJ_EX":
            self._pop(), self._pop(), self._pop()
            stack.append(Placeholder())
        elif opcode in ("OBJ", "FROZENSET"):
            self._pop_to_mark()
            stack.append(Placeholder())
        elif opcode == "INST":
            self._name(*argument.split(" ", 1))
            self._pop_to_mark()
            stack.append(Placeholder())
        elif opcode == "BUILD":
            state = self._pop()  # of an object; only a ParameterDict's is of use
            if isinstance(self.stack[-1], _Parameters) and isinstance(state, dict):
                kept = state.get("_parameters")
                self.stack[-1].update(kept if isinstance(kept, dict) else {})
        elif opcode == "BINPERSID":
            stack.append(self._storage(self._pop()))
        else:
            raise ValueError(f"opcode {opcode} has no place in a checkpoint")

    def _pop(self):
        value = self.stack.pop()
        if value is _Mark:
            raise ValueError("a mark where a value should be")
        return value

    def _pop_to_mark(self) -> list:
        items = []
        while (item := self.stack.pop()) is not _Mark:
            items.append(item)
        items.reverse()
        return items

    def _append(self, items: list) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set_items(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                # Hashing a nested tuple can take for ever; tensors have names.
                if isinstance(key, (str, int)):
                    target[key] = value

    def _name(self, module, name) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a class whose name is not a string")
        top = module.split(".")[0]
        builtin = top in ("builtins", "__builtin__")
        if top in DANGEROUS_MODULES or (
            builtin and name.split(".")[0] in DANGEROUS_BUILTINS
        ):
            raise WeightsError(
                f"The checkpoint would run `{module}.{name}` on the machine of anyone "
                f"who opens it with pickle; it is refused, and nothing was run. "
                f"Received: {self.path}"
            )
        if top not in TENSORS_OWN:
            self.strangers.append(shown(f"{module}.{name}"))
        return Name(module, name)

    def _call(self, function, arguments):
        """The value of the few functions that make tensors, else a placeholder."""
        if not isinstance(function, Name):
            return Placeholder()
        if function == ("collections", "OrderedDict"):
            return {}
        if function == ("torch.nn.modules.container", "ParameterDict"):
            return _Parameters()
        if isinstance(function, Name) and function.module == "torch._utils":
            if function.name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
                storage, offset, shape, strides = arguments[:4]
                return self._tensor(storage, storage.dtype, offset, shape, strides)
            if function.name == "_rebuild_tensor_v3":
                storage, offset, shape, strides, _, _, dtype = arguments[:7]
                if isinstance(dtype, Name) and dtype.name in DTYPES:
                    dtype = DTYPES[dtype.name]
                    return self._tensor(storage, dtype, offset, shape, strides)
            if function.name in (
                "_rebuild_parameter",
                "_rebuild_parameter_with_state",
            ):
                return arguments[0]
        if function == ("torch._tensor", "_rebuild_from_type_v2"):
            return self._call(arguments[0], arguments[2])
        return Placeholder()

    def _tensor(self, storage, dtype, offset, shape, strides) -> Tensor:
        if not isinstance(shape, (tuple, list)) or not isinstance(
            strides, (tuple, list)
        ):
            raise ValueError("a tensor whose description makes no sense")
        shape, strides = tuple(shape), tuple(strides)
        numbers = (offset, *shape, *strides)
        if (
            not isinstance(storage, Storage)
            or not all(type(n) is int and n >= 0 for n in numbers)
            or len(shape) != len(strides)
            or len(shape) > 32
        ):
            raise ValueError("a tensor whose description makes no sense")
        return Tensor(storage, dtype, offset, shape, strides)

    def _storage(self, identity) -> Storage:
        """A storage from the persistent id that stands for it."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise ValueError("an unknown persistent id")
        kind, type_name, key, _, count, *view = identity
        # Asked for a string ahead: what nests deep is not compared, hashed or shown.
        if not isinstance(kind, str) or kind != "storage":
            raise ValueError("an unknown persistent id")
        if not isinstance(type_name, Name) or type(key) not in (str, int):
            raise ValueError("a storage without a type or a name")
        if type_name.name not in STORAGES:
            raise WeightsError(
                f"The checkpoint holds values of an unknown type. Received: "
                f"{type_name.name} in {self.path}"
            )
        offset = 0
        if view and view[0] is not None:
            _, offset, count = view[0]
        if not all(type(n) is int and n >= 0 for n in (offset, count)):
            raise ValueError("a storage whose size makes no sense")
        storage = Storage(str(key), STORAGES[type_name.name], count, offset)
        self.storages[storage.key] = storage
        return storage


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE "
    "BINUNICODE8 FLOAT BINFLOAT".split()
)
_EMPTY = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": Placeholder,
}
