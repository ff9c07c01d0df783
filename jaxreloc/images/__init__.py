"""Pictures: read from files and bytes, upright; resized, cropped and turned with their cameras."""

from jaxreloc.images.blur import sharpness
from jaxreloc.images.decoding import (
    ImageFiles,
    decode_grey,
    decode_image,
    encode_jpeg,
    read_image,
)
from jaxreloc.images.depth_pictures import (
    DepthFiles,
    cell_centres,
    decode_depth,
    read_depth,
    sample_depth,
)
from jaxreloc.images.headers import (
    PICTURE_SUFFIXES,
    PictureHeader,
    check_shape,
    image_size,
    note_unread_formats,
    read_bytes,
    read_header,
    set_max_pixels,
)
from jaxreloc.images.resizing import (
    center_crop,
    random_crop,
    resize,
    resize_frame,
    resize_short_side,
    resize_to_fit,
    shrunk,
)
from jaxreloc.images.turning import turn, turn_camera

__all__ = [
    "DepthFiles",
    "ImageFiles",
    "PICTURE_SUFFIXES",
    "PictureHeader",
    "cell_centres",
    "center_crop",
    "check_shape",
    "decode_depth",
    "decode_grey",
    "decode_image",
    "encode_jpeg",
    "image_size",
    "note_unread_formats",
    "random_crop",
    "read_bytes",
    "read_depth",
    "read_header",
    "read_image",
    "resize",
    "resize_frame",
    "resize_short_side",
    "resize_to_fit",
    "sample_depth",
    "set_max_pixels",
    "sharpness",
    "shrunk",
    "turn",
    "turn_camera",
]
