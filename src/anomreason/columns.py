"""By which column or key a table names its images.

>>> known_image_key(["caption", "file_name"])
'file_name'
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

IMAGE_KEYS = ("file_name", "image", "file", "path")
"""Where a manifest names an image. The first of them that is there counts, since a `path` may be one elsewhere."""
OTHER_KEYS = (
    *("filename", "file_path", "filepath", "image_path", "img_path", "image_file_name", "image_filename"),
    *("image_file", "img_file", "image_name", "img_name", "img", "images", "relative_path", "rel_path"),
)
"""Other programs' names for it, taken where none of our own is there; case, spaces and dashes do not matter."""


def known_image_key(keys: Collection[str]) -> str | None:
    """The key that names the image."""
    for key in IMAGE_KEYS:
        if key in keys:
            return key
    plain = {re.sub(r"[ -]+", "_", key.strip().lower()): key for key in reversed(list(keys))}
    return next((plain[key] for key in (*IMAGE_KEYS, *OTHER_KEYS) if key in plain), None)


def embedded_column(columns: Mapping[str, bool]) -> str | None:
    """The column that holds the images themselves; None where the table lists paths. columns: whether each holds bytes.

    Bytes under a name that images go by come before paths, and bytes under any other name after them.
    """
    embedded = [name for name, may in columns.items() if may]
    return known_image_key(embedded) or (None if known_image_key(columns) else next(iter(embedded), None))
