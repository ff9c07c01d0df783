"""State dicts in both of PyTorch's layouts, written here opcode by opcode."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxreloc.models.weights import backbone_weights, torch_files
from jaxreloc.usage import UsageError

MAGIC = 0x1950A86A20F9469CFC6C


def opcodes(value):
    """The pickle of a plain value without its frame."""
    return pickle.dumps(value, 2)[2:-1]


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def tensor(array, key, layout, offset=0, size=None, stride=None, count=None):
    """`_rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())`."""
    size = array.shape if size is None else size
    stride = tuple(s // array.itemsize for s in array.strides) if stride is None else stride
    storage = opcodes("storage") + name("torch", "FloatStorage") + opcodes(key) + opcodes("cpu")
    storage += opcodes(array.size if count is None else count)
    storage += opcodes(None) if layout == "legacy" else b""
    arguments = b"(" + storage + b"tQ" + opcodes(offset) + opcodes(size) + opcodes(stride)
    arguments += opcodes(False) + name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def write(path, layout, entries, storages):
    """`entries`: name to opcodes; `storages`: key to array."""
    items = b"".join(opcodes(key) + value for key, value in entries.items())
    state = b"\x80\x02}(" + items + b"u."
    if layout == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", state)
            for key, array in storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    tail = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    path.write_bytes(b"".join([*head, state, pickle.dumps(list(storages), 2), *tail]))


@pytest.fixture(params=["zip", "legacy"])
def layout(request):
    return request.param


def test_tensors_are_read(rng, tmp_path, layout):
    array = rng.normal(size=(3, 4)).astype(np.float32)
    entries = {
        "whole": tensor(array, "0", layout),
        "transposed": tensor(array, "0", layout, size=(4, 3), stride=(1, 4)),
        "last row": tensor(array, "0", layout, offset=8, size=(4,), stride=(1,)),
    }
    write(tmp_path / "a.pth", layout, entries, {"0": array})
    state = torch_files.read_state_dict(tmp_path / "a.pth")
    np.testing.assert_array_equal(state["whole"], array)
    np.testing.assert_array_equal(state["transposed"], array.T)
    np.testing.assert_array_equal(state["last row"], array[2])


@pytest.mark.parametrize(
    "view",
    [
        {"offset": 1},
        {"size": (3, 5), "stride": (4, 1)},
        {"offset": -1, "size": (2,), "stride": (1,)},
        {"size": (4,), "stride": (-1,)},
        {"count": 13},
    ],
)
def test_views_beyond_their_storage_are_refused(tmp_path, layout, view):
    array = np.zeros((3, 4), np.float32)
    write(tmp_path / "a.pth", layout, {"x": tensor(array, "0", layout, **view)}, {"0": array})
    with pytest.raises(UsageError, match="a.pth: not a PyTorch state dict"):
        torch_files.read_state_dict(tmp_path / "a.pth")


def test_nothing_but_tensors_is_called(tmp_path, layout):
    trap = name("pathlib", "Path") + opcodes(("owned",)) + b"R"
    write(tmp_path / "a.pth", layout, {"x": trap}, {})
    with pytest.raises(UsageError, match="it names pathlib.Path, which is refused"):
        torch_files.read_state_dict(tmp_path / "a.pth")


def test_other_values_are_refused(tmp_path, layout):
    write(tmp_path / "a.pth", layout, {"epoch": opcodes(3)}, {})
    with pytest.raises(UsageError, match="map names to tensors and nothing else"):
        torch_files.read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"\x80\x02K\x01.", b"not a pickle", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UsageError, match="a.pth: not a PyTorch state dict"):
        torch_files.read_state_dict(tmp_path / "a.pth")


def test_absent_and_truncated_files(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        torch_files.read_state_dict(tmp_path / "absent.pth")
    whole = backbone_weights.SOURCES["efficientnet_lite0"].default_file().read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="not a PyTorch state dict"):
        torch_files.read_state_dict(tmp_path / "half.pth")
