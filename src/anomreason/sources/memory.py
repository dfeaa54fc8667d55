"""Images in memory as they would be in a file: Pillow images, arrays, tensors, bytes, rows of `datasets`.

>>> held_image(Image.new("RGB", (8, 8)), "image-000").file_name
'4a0945534329d26c.png'
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict, cast

from PIL import Image

from anomreason.containers import kind_of
from anomreason.errors import UnreadableImage, UsageError, shown
from anomreason.images import file_bytes
from anomreason.pixels import to_rgb_or_grey

if TYPE_CHECKING:
    import numpy as np

    _Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"

_AS_THEY_ARE = frozenset(("1", "L", "LA", "P", "RGB", "RGBA", "I;16"))
"""Pillow's modes that a PNG holds."""
_ORIENTATION = 0x0112
_OVERSHOOT = 0.5 / 255
"""How far a float may lie outside of 0..1, from rounding: less than half of one of 255 steps."""


class PixelArray(Protocol):
    """A NumPy array or a torch tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


DatasetImage = TypedDict("DatasetImage", {"bytes": bytes | None, "path": str | None})  # noqa: UP013  # `bytes` is a name
"""How `datasets` gives an image that it does not decode."""
ImageInMemory: TypeAlias = "Image.Image | PixelArray | bytes | bytearray | memoryview | DatasetImage"
ImageInput: TypeAlias = "str | Path | ImageInMemory"
"""One image: its path, or the image itself."""
ImageInputs: TypeAlias = "Sequence[str | Path | ImageInMemory] | Mapping[str, str | Path | ImageInMemory]"
"""Many images: a sequence, or images by the names that they are to have."""


@dataclass(frozen=True, slots=True)
class HeldImage:
    """One image in memory, encoded."""

    name: str
    """As results call it."""
    data: bytes
    """What an image file would hold: the bytes that were given, or the pixels as PNG."""
    sha256: str
    """Of `data`, hex."""

    @property
    def file_name(self) -> str:
        """By its content, so that the same image has the same name whenever it comes."""
        return f"{self.sha256[:16]}.{(kind_of(self.data[:64]) or 'bin').lower()}"


@dataclass(frozen=True, slots=True)
class GivenImages:
    """What a function of the package was given as images."""

    entries: tuple[str | HeldImage, ...]
    """Paths, folders and globs as they were given, and images in memory."""
    single: bool
    """Whether one image was given, and not a sequence or mapping."""


def given_images(images: ImageInput | ImageInputs) -> GivenImages:
    """Paths as they are, and images in memory encoded; those in a sequence are named by their place, `image-000`.

    Raises UsageError for what is no image, with its name or place and what to give instead.
    """
    if isinstance(images, str | Path) or _is_one(images):
        return GivenImages((_entry(cast(ImageInput, images), "image-000"),), single=True)
    if isinstance(images, Mapping):
        named = {name: image for name, image in images.items() if _is_name(name)}
        return GivenImages(tuple(held_image(image, name) for name, image in named.items()), single=False)
    if isinstance(images, Sequence):
        return GivenImages(tuple(_entry(image, f"image-{n:03}") for n, image in enumerate(images)), single=False)
    raise UsageError(f"images is {_kind(images)}; give a path, {_FORMS}, or a list of these")


_FORMS = "a Pillow image, a NumPy array, a torch tensor, or the bytes of an image file"


def held_image(image: object, name: str) -> HeldImage:
    """One image in memory, or the file at a path, under a name. Raises UsageError for what is no image."""
    if isinstance(image, str | Path):
        data = _of_file(Path(image), name)
    elif isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, Image.Image):
        data = _of_pillow(image, name)
    elif _is_row(image):
        data = _of_row(cast(DatasetImage, image), name)
    elif (values := _values(image, name)) is not None:
        data = _png(_of_array(values, name))
    else:
        raise UsageError(f"{name} is {_kind(image)}; give a path, {_FORMS}")
    return HeldImage(name, data, hashlib.sha256(data).hexdigest())


def _is_one(images: object) -> bool:
    """Whether this is one image in memory; sequences and mappings of images are not."""
    kinds = (bytes, bytearray, memoryview, Image.Image)
    return isinstance(images, kinds) or _is_row(images) or _numpy(images) or _torch(images)


def _entry(image: object, name: str) -> str | HeldImage:
    """A path as it is, anything else encoded."""
    return str(image) if isinstance(image, str | Path) else held_image(image, name)


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"the name of an image is {shown(name)}; give texts as names: {{'cat': image}}")
    return True


def _kind(value: object) -> str:
    return "None" if value is None else f"of the type {type(value).__qualname__}"


def _is_row(image: object) -> bool:
    """Whether this is an image as `datasets` gives one that it does not decode."""
    if not isinstance(image, Mapping) or not image or not image.keys() <= {"bytes", "path"}:
        return False
    path, data = image.get("path"), image.get("bytes")
    return isinstance(path, str | None) and isinstance(data, bytes | bytearray | memoryview | None)


def _of_row(row: DatasetImage, name: str) -> bytes:
    data, path = row.get("bytes"), row.get("path")
    if data is not None:
        return bytes(data)
    if not path:
        raise UsageError(f"{name} has neither 'bytes' nor a 'path'; leave the row out")
    return _of_file(Path(path), name)


def _of_file(path: Path, name: str) -> bytes:
    try:
        return file_bytes(path)
    except UnreadableImage as error:
        raise UsageError(f"{name}: {error}") from None


def _of_pillow(image: Image.Image, name: str) -> bytes:
    """The pixels as PNG, turned upright later by the EXIF orientation as those of the file would be."""
    if 0 in image.size:
        raise UsageError(f"{name} is a Pillow image of {image.width}x{image.height} pixels; leave it out")
    try:
        image.load()
        if image.mode == "F":
            import numpy as np

            return _png(_of_array(np.asarray(image), name))
        plain = image if image.mode in _AS_THEY_ARE else to_rgb_or_grey(image, [])
        turn = image.getexif().get(_ORIENTATION, 1)
        return _png(plain, turn if turn in range(2, 9) else 1)
    except UsageError:
        raise
    except Exception as error:  # whatever a decoder raises on a damaged file that was opened and not read yet
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise UsageError(
            f"{name} is a Pillow image that cannot be read ({what}); give its path instead, or call its load() before "
            "its file is closed"
        ) from error


def _png(image: Image.Image, orientation: int = 1) -> bytes:
    """As Pillow saves it without options, so that the same pixels in a file have the same bytes."""
    out = BytesIO()
    if orientation == 1:
        image.save(out, "PNG")
    else:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        image.save(out, "PNG", exif=exif)
    return out.getvalue()


def _numpy(image: object) -> bool:
    numpy = sys.modules.get("numpy")  # whoever has an array has imported it
    return numpy is not None and isinstance(image, numpy.ndarray)


def _torch(image: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _values(image: object, name: str) -> _Array | None:
    """The array with channels last; None for what is neither an array nor a tensor."""
    if _numpy(image):
        return cast("_Array", image)
    if not _torch(image):
        return None
    tensor = image.detach()  # type: ignore[attr-defined]
    values = cast("_Array", (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy())
    _check_dimensions(values, name)
    first = values.ndim == 3 and values.shape[0] in (1, 3, 4)
    return values.transpose(1, 2, 0) if first else values


def _check_dimensions(values: _Array, name: str) -> None:
    if values.ndim == 4:
        raise UsageError(f"{name} is a batch {_shape(values)}; give its images one by one: list(batch)")
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise UsageError(f"{name} has the shape {_shape(values)}; {_SHAPES}")


_SHAPES = "give height x width, or height x width x 3 (RGB) or x 4 (RGBA); tensors may have the channels first"


def _shape(values: _Array) -> str:
    return "x".join(map(str, values.shape)) or "of a single number"


def _of_array(values: _Array, name: str) -> Image.Image:
    """values: (height, width) or (height, width, 1 | 3 | 4), of 8 bits, or floats 0..1."""
    import numpy as np

    _check_dimensions(values, name)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] not in (3, 4):
        first = " (channels first? then array.transpose(1, 2, 0))" if values.shape[0] in (1, 3, 4) else ""
        raise UsageError(f"{name} has the shape {_shape(values)}{first}; {_SHAPES}")
    if np.issubdtype(values.dtype, np.floating):
        values = _to_8_bits(values, name)
    if values.dtype != np.uint8:
        also = {"bool": ": multiply by 255 for black and white", "uint16": ": 16 bits divided by 257"}
        raise UsageError(
            f"{name} is an array of {values.dtype}; give uint8 (0..255) or floats (0..1)"
            + also.get(str(values.dtype), "")
        )
    return Image.fromarray(np.ascontiguousarray(values))


def _to_8_bits(values: _Array, name: str) -> _Array:
    """Floats 0..1 to the nearest of 256 levels. UsageError for others, as nobody knows what they mean."""
    import numpy as np

    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError(f"{name} holds values that are no numbers (NaN or infinite); mend what made it")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        if low >= 0 and high <= 255:
            remedy = "divide them by 255, or give array.round().astype('uint8')"
        elif low >= -1 - _OVERSHOOT and high <= 1 + _OVERSHOOT:
            remedy = "bring -1..1 to 0..1 with x / 2 + 0.5"
        else:
            remedy = "bring them to 0..1"
        raise UsageError(f"{name} holds floats from {low:g} to {high:g}, where 0..1 is expected; {remedy}")
    return (values.astype(np.float64) * 255).round().clip(0, 255).astype(np.uint8)
