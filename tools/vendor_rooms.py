"""Makes src/anomreason/scenes/rooms/models/ from Debian's sweethome3d-furniture: the CC0 models of the rooms world.

Needs `pip install fast-simplification` and `apt-get install sweethome3d-furniture`; nothing of it is needed later on.

    python tools/vendor_rooms.py /usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f
"""

from __future__ import annotations

import argparse
import io
import json
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import fast_simplification
import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent.parent / "src" / "anomreason" / "scenes" / "rooms" / "models"
FACES = 8000
"""Most triangles of a model; more are simplified away."""
TEXTURE_EDGE = 192
"""Most pixels of a texture's longer edge."""

WANTED = [
    "bed1", "bed2", "bedWithTexture", "bedsideTable2", "bookcase", "caballito", "desklamp", "doubleOven",
    "kitchenaid", "led_tv", "oakChair", "oakTable", "pianoAQueue", "shelves", "tableFan", "tableWithTablecloth",
    "teddyBear", "tetrapak", "toiletsUnit", "towel3", "verticalShelves", "washbasin", "wardrobeWithSlidingDoors",
    "desk", "basketball", "armchair2", "chair", "bread", "horse2", "chicken", "augalas", "briefcase", "cactus",
    "chairWithCushion", "chair2", "dustbin", "modernVanity", "orchids", "osakaChair", "plant", "sofa2", "table",
    "wheelbarrow", "winchesterArmchair", "winchesterSofa", "highCabinet", "largeFridge", "lbDesk", "lowerCabinet",
    "drawersCabinet", "pianoBench", "sinkCabinet", "stool2", "upperCabinet", "coffeeBrewer", "couch",
    "mofx_mailbox", "littlePlant", "urinal", "radiator", "armchair", "sillaBlanca",
]  # fmt: skip


def catalogue(archive: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    """Entries of the catalogue by the model's short name."""
    found: dict[str, dict[str, str]] = {}
    for line in archive.read("PluginFurnitureCatalog.properties").decode("latin1").splitlines():
        if match := re.match(r"(\w+)#(\d+)=(.*)", line.strip()):
            found.setdefault(match[2], {})[match[1]] = match[3]
    return {PurePosixPath(entry["model"]).stem: entry for entry in found.values()}


def materials(text: str) -> dict[str, dict[str, str]]:
    """The statements of an MTL file by material."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            current = found.setdefault(rest.strip(), {})
        elif word:
            current[word] = rest.strip()
    return found


def read_obj(text: str) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray], str]:
    """Triangles by material as (3, 3) indices (position, uv, normal; -1: none), the three arrays, the MTL's name."""
    arrays: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    faces: dict[str, list[np.ndarray]] = {}
    material, library = "", ""
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] in arrays:
            arrays[words[0]].append([float(w) for w in words[1 : 3 if words[0] == "vt" else 4]])
        elif words[0] == "usemtl":
            material = words[1] if len(words) > 1 else ""
        elif words[0] == "mtllib":
            library = " ".join(words[1:])
        elif words[0] == "f":
            corners = [corner(w, [len(arrays[k]) for k in ("v", "vt", "vn")]) for w in words[1:]]
            for i in range(1, len(corners) - 1):
                faces.setdefault(material, []).append(np.array([corners[0], corners[i], corners[i + 1]]))
    return faces, [np.array(arrays[k], dtype=float).reshape(-1, 2 if k == "vt" else 3) for k in arrays], library


def corner(word: str, counts: list[int]) -> list[int]:
    fields = [*word.split("/"), "", ""][:3]
    values = [int(f) if f else 0 for f in fields]
    return [v - 1 if v > 0 else counts[i] + v if v < 0 else -1 for i, v in enumerate(values)]


def part_mesh(tri: np.ndarray, arrays: list[np.ndarray], textured: bool, budget: int) -> dict[str, np.ndarray]:
    """One material's triangles: welded, wound as its normals say, simplified to the budget."""
    position = arrays[0][tri[:, :, 0]]  # (faces, corner, 3)
    if len(arrays[2]) and (tri[:, :, 2] >= 0).all():
        want = arrays[2][tri[:, :, 2]].mean(axis=1)
        have = np.cross(position[:, 1] - position[:, 0], position[:, 2] - position[:, 0])
        wrong = (want * have).sum(axis=1) < 0
        tri, position = tri.copy(), position.copy()
        tri[wrong] = tri[wrong][:, ::-1]
        position[wrong] = position[wrong][:, ::-1]
    uv = arrays[1][tri[:, :, 1]] if textured and len(arrays[1]) else np.zeros((*tri.shape[:2], 2))
    flat = position.reshape(-1, 3)
    _, first, faces = np.unique(np.round(flat, 5), axis=0, return_index=True, return_inverse=True)
    vertices, faces = flat[first], faces.reshape(-1, 3)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    faces, uv = faces[proper], uv[proper]
    old_uv = uv.reshape(-1, 2)
    if len(faces) > budget:
        old = vertices[faces].reshape(-1, 3)
        vertices, faces = fast_simplification.simplify(
            vertices.astype(np.float32), faces.astype(np.int32), target_reduction=1 - budget / len(faces)
        )
        corners = nearest(vertices, old, old_uv)[faces]
    else:
        corners = uv
    return {"v": np.asarray(vertices, float), "f": np.asarray(faces, np.int64), "uv": corners}


def nearest(points: np.ndarray, old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of the old point nearest to each point."""
    if not values.any():
        return np.zeros((len(points), values.shape[1]))
    out = np.empty((len(points), values.shape[1]))
    for start in range(0, len(points), 256):
        block = points[start : start + 256]
        out[start : start + 256] = values[((block[:, None] - old[None]) ** 2).sum(-1).argmin(1)]
    return out


def components(faces: np.ndarray, count: int) -> np.ndarray:
    """A number for each face, the same for faces that hang together."""
    label = np.arange(count)
    while True:
        low = label[faces].min(axis=1)
        new = label.copy()
        np.minimum.at(new, faces.ravel(), np.repeat(low, 3))
        new = new[new]
        if (new == label).all():
            return np.unique(label[faces[:, 0]], return_inverse=True)[1]
        label = new


def material_of(entry: dict[str, str]) -> dict[str, Any]:
    """Colour (linear), roughness, metal and opacity of an MTL material."""

    def numbers(key: str, default: str) -> list[float]:
        return [float(x) for x in entry.get(key, default).split()]

    shine = numbers("Ns", "10")[0]
    gloss = sum(numbers("Ks", "0 0 0")) / 3
    diffuse = [min(0.85, max(0.02, x)) for x in numbers("Kd", "0.6 0.6 0.6")]
    grey = max(diffuse) - min(diffuse) < 0.06 and sum(diffuse) / 3 > 0.5
    return {
        "colour": [round(x**1.8, 4) for x in diffuse],
        "roughness": round(float(np.clip((2 / (shine + 2)) ** 0.25 + (0.15 if gloss < 0.2 else 0), 0.25, 0.9)), 3),
        "metal": 0.9 if gloss > 0.55 and grey else 0.0,
        "opacity": float(entry.get("d", "1").split()[0]),
    }


def texture(archive: zipfile.ZipFile, folder: PurePosixPath, entry: dict[str, str]) -> bytes | None:
    path = str(folder / entry["map_Kd"]) if "map_Kd" in entry else ""
    if path not in archive.namelist():
        return None
    image = Image.open(io.BytesIO(archive.read(path))).convert("RGB")
    image.thumbnail((TEXTURE_EDGE, TEXTURE_EDGE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def convert(archive: zipfile.ZipFile, entry: dict[str, str]) -> bytes:
    """The model as a compressed npz: x right, y back, z up, metres, standing on the middle of z = 0."""
    path = PurePosixPath(entry["model"].lstrip("/"))
    by_material, arrays, library = read_obj(archive.read(str(path)).decode("latin1"))
    if "modelRotation" in entry:
        arrays[0] = arrays[0] @ np.array([float(x) for x in entry["modelRotation"].split()]).reshape(3, 3).T
    used = np.concatenate([np.stack(t)[:, :, 0].ravel() for t in by_material.values()])
    low, high = arrays[0][used].min(axis=0), arrays[0][used].max(axis=0)
    size = np.array([float(entry[k]) / 100 for k in ("width", "height", "depth")])
    arrays[0] = (arrays[0] - (low + high) / 2) / np.maximum(high - low, 1e-9) * size
    arrays[0] = np.stack([arrays[0][:, 0], -arrays[0][:, 2], arrays[0][:, 1] + size[1] / 2], axis=1)
    if len(arrays[2]):
        arrays[2] = np.stack([arrays[2][:, 0], -arrays[2][:, 2], arrays[2][:, 1]], axis=1)
    library_path = str(path.parent / library)
    known = materials(archive.read(library_path).decode("latin1")) if library_path in archive.namelist() else {}
    total = sum(len(t) for t in by_material.values())
    parts, out = [], {}
    for name, triangles in by_material.items():
        if name.endswith("DoorBorder"):  # lies in the same plane as the door
            continue
        picture = texture(archive, path.parent, known.get(name, {}))
        share = max(60, int(len(triangles) * min(1.0, FACES / total)))
        mesh = part_mesh(np.stack(triangles), arrays, picture is not None, share)
        if not len(mesh["f"]):
            continue
        i = len(parts)
        parts.append({"name": name, "textured": picture is not None} | material_of(known.get(name, {})))
        span = size[[0, 2, 1]]
        out[f"v{i}"] = np.round((mesh["v"] / span + [0.5, 0.5, 0]) * 65000).clip(0, 65535).astype(np.uint16)
        out[f"f{i}"] = mesh["f"].astype(np.uint16)
        out[f"c{i}"] = components(mesh["f"], len(mesh["v"])).astype(np.uint16)
        if picture is not None:
            out[f"uv{i}"] = mesh["uv"].astype(np.float16)
            out[f"t{i}"] = np.frombuffer(picture, np.uint8)
    about = {"size": size[[0, 2, 1]].tolist(), "parts": parts}
    out["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, **out)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [
        "The models in this folder are from BlendSwap-CC-0.sh3f of Sweet Home 3D's furniture libraries",
        "(Debian package sweethome3d-furniture; https://www.sweethome3d.com). Licence: CC0 1.0 Universal, public",
        "domain dedication, https://creativecommons.org/publicdomain/zero/1.0/. They were simplified and their",
        "textures made smaller. The licence asks for no credit; we give it gladly.",
        "",
        "file; name; author (as in the library's catalogue); licence",
    ]
    with zipfile.ZipFile(arguments.archive) as archive:
        known = catalogue(archive)
        for name in sorted(WANTED):
            data = convert(archive, known[name])
            (FOLDER / f"{name}.npz").write_bytes(data)
            lines.append(f"{name}.npz; {known[name]['name']}; {known[name]['creator']}; CC0 1.0")
            print(f"{name}: {len(data) // 1024} KB")
    (FOLDER / "ATTRIBUTION.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
