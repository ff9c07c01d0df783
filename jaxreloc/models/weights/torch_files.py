"""Reads the tensors of a PyTorch `.pth` state dict without PyTorch and without running its code.

A `.pth` file is a pickle, which may name any function to call. This reader knows the few names
that a state dict needs (`_ALLOWED`) and refuses a file that names another. Both layouts are read:
the zip archive of PyTorch 1.6 and later, and the older one of pickles and buffers in sequence.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxreloc import files
from jaxreloc.usage import UsageError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote, by name.

    Raises:
      UsageError: the file cannot be read, is no state dict, or is a pickle that names anything but
        tensors.
    """
    path = pathlib.Path(path)
    try:
        with files.open_regular(path) as file:
            state = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _MALFORMED as error:
        message = f"{path}: not a PyTorch state dict ({error}); download it again"
        raise UsageError(message) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in state.items()
    ):
        raise UsageError(f"{path}: not a state dict: it must map names to tensors and nothing else")
    return dict(state)


_MALFORMED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    MemoryError,
)


class _Storage:
    """A flat buffer, whose bytes the legacy layout holds after the pickle that refers to it."""

    def __init__(self, dtype: np.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.values: np.ndarray | None = None

    def fill(self, data: bytes) -> None:
        if len(data) != self.count * self.dtype.itemsize:
            raise ValueError(f"a storage has {len(data)} bytes for {self.count} {self.dtype}")
        self.values = np.frombuffer(data, self.dtype)


class _Tensor:
    """A view of a storage; the arguments are those of PyTorch's `_rebuild_tensor_v2`."""

    def __init__(self, storage, offset, size, stride, requires_grad, hooks, metadata=None):
        del requires_grad, hooks, metadata
        if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
            raise ValueError(f"a tensor has size {size}, stride {stride} and offset {offset}")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if 0 not in size and (last >= storage.count or math.prod(size) > storage.count):
            raise ValueError(f"a tensor of size {size} reaches beyond its storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> np.ndarray:
        values = self.storage.values[self.offset :]
        strides = [step * values.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(values, self.size, strides).copy()


def _rebuild_parameter(tensor: _Tensor, requires_grad: bool, hooks: Any) -> _Tensor:
    del requires_grad, hooks
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _STORAGE_DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, persistent_load: Callable[[tuple], Any]):
        _check_places(file)
        super().__init__(file, encoding="latin1")
        self.persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused")
        return _ALLOWED[module, name]


def _check_places(file: BinaryIO) -> None:
    """Raises ValueError for a pickle that asks for more memory than its length accounts for."""
    start = file.tell()
    for opcode, argument, place in pickletools.genops(file):
        if opcode.name in _MEMO_OPCODES and argument > place:
            raise ValueError(f"place {argument} for an object, of {place} bytes before it")
    file.seek(start)


_MEMO_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")


def _refuse_storages(persistent_id: tuple) -> Any:
    raise pickle.UnpicklingError(f"unexpected storage {persistent_id[:1]}")


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, which PyTorch does not do")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            if archive.read(f"{root}byteorder") != b"little":
                raise ValueError("it was written on a big-endian machine")
        storages = {}

        def load_storage(persistent_id: tuple) -> _Storage:
            _, dtype, key, _, count = persistent_id
            if key not in storages:
                storages[key] = _Storage(dtype, count)
                storages[key].fill(archive.read(f"{root}data/{key}"))
            return storages[key]

        return _arrays(_Unpickler(io.BytesIO(archive.read(pickles[0])), load_storage).load())


def _read_legacy(file: BinaryIO) -> Any:
    storages = {}

    def load_storage(persistent_id: tuple) -> _Storage:
        _, dtype, key, _, count, view = persistent_id
        if view is not None:
            raise ValueError("a storage is a view of another")
        return storages.setdefault(key, _Storage(dtype, count))

    def load(persistent_load: Callable[[tuple], Any] = _refuse_storages) -> Any:
        return _Unpickler(file, persistent_load).load()

    file.seek(0)
    if load() != _LEGACY_MAGIC:
        raise ValueError("the file does not begin as torch.save begins one")
    load()  # the protocol's version
    load()  # the sizes of C types where it was written
    state = load(load_storage)
    for key in load():
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise ValueError(f"a storage has {count} values, not {storages[key].count}")
        storages[key].fill(file.read(count * storages[key].dtype.itemsize))
    return _arrays(state)


def _arrays(state: Any) -> Any:
    if not isinstance(state, Mapping):
        return state
    return {
        name: value.array() if isinstance(value, _Tensor) else value
        for name, value in state.items()
    }
