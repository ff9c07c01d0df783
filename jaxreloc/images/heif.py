"""HEIC pictures, which phones take; the extra `heic` reads them."""

import importlib.util
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxreloc.extras import extra

SUFFIXES = {".heic", ".heif"}
BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
HEAD_BYTES = 12


def is_readable() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_heif(head: bytes) -> bool:
    """By the first HEAD_BYTES of a file."""
    return head[4:8] == b"ftyp" and head[8:12] in BRANDS


def let_pillow_open() -> None:
    """Pillow then opens them upright, whatever their EXIF says.

    Raises:
      UsageError: the extra is not installed.
    """
    with extra("heic"):
        import pillow_heif
    pillow_heif.register_heif_opener()


def decode_heif(encoded: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    """An RGB picture, upright; None of what breaks off."""
    let_pillow_open()
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            return np.array(opened.convert("RGB"))
    except Exception:  # whatever it makes of damaged bytes
        return None
