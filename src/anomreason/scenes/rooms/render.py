"""Path tracing with Mitsuba 3: from meshes, lights and a camera to radiance and to a map of the object in each pixel.

Needs the extra `scenes`. The variant `llvm_ad_rgb` is used where Mitsuba finds an LLVM library, else `scalar_rgb`,
which needs nothing and is slower; the environment variable ANOMREASON_MITSUBA forces one.

    >>> variant()  # doctest: +SKIP
    'llvm_ad_rgb'
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomreason.errors import MissingExtra, UsageError
from anomreason.scenes.rooms.meshes import Colour, Finish, Floats, Mesh, MeshPart, normals

Radiance = NDArray[np.float32]
"""(size, size, 3), linear."""
Owners = NDArray[np.uint8]
"""(size, size): whose surface is seen there."""
VARIANTS = ("llvm_ad_rgb", "scalar_rgb")
GUIDE_SAMPLES = 4
"""Rays a pixel for the albedo and the normals that guide the denoiser."""
TEXTURE = 256
"""Edge in pixels of every texture: one size for all keeps the number of kernels to compile low."""
KNEE = 0.42
"""Where the soft shoulder of the tone curve starts."""
FIREFLY = 12.0
"""Radiance above which a single sample pixel counts as noise before denoising."""


@dataclass(frozen=True)
class DirectionalLight:
    """Parallel light."""

    towards: tuple[float, float, float]
    """Where its light goes."""
    radiance: Colour


@dataclass(frozen=True, eq=False)
class RenderScene:
    """All that is needed for an image."""

    bodies: tuple[tuple[int, Mesh], ...]
    """(owner, mesh in world coordinates); owner 0 is the room itself."""
    suns: tuple[DirectionalLight, ...]
    sky: Colour
    """How bright it is outside, where there is no wall."""
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    view: float
    """Horizontal angle of view in degrees."""


@lru_cache(maxsize=1)
def mitsuba() -> Any:
    """The module with its variant set. Raises MissingExtra, or UsageError on an unknown variant."""
    try:
        import mitsuba as mi
        import mitsuba_oidn  # noqa: F401
    except ImportError as missing:
        raise MissingExtra("path-traced rooms", "scenes") from missing
    asked = os.environ.get("ANOMREASON_MITSUBA", "")
    if asked and asked not in mi.variants():
        raise UsageError(f"ANOMREASON_MITSUBA is {asked!r}; choose one of {', '.join(VARIANTS)}")
    mi.set_variant(asked or next(name for name in VARIANTS if name == "scalar_rgb" or _works(name)))
    mi.set_log_level(mi.LogLevel.Error)
    return mi


_PROBE = """
import sys, mitsuba, drjit
mitsuba.set_variant(sys.argv[1])
assert float(drjit.minimum(mitsuba.Float([1.0, 2.0]), 1.5)[1]) == 1.5
"""


def _works(name: str) -> bool:
    """Whether the variant can compute. Asked in a process of its own: an LLVM library that cannot do what Dr.Jit asks
    of it (14.0.6 no `fminimum`, asked for by Dr.Jit 1.5) ends the whole process."""
    return subprocess.run([sys.executable, "-c", _PROBE, name], capture_output=True).returncode == 0


def variant() -> str:
    """The Mitsuba variant in use; the same variant on the same machine gives the same pixels."""
    return str(mitsuba().variant())


def trace(stage: RenderScene, size: int, samples: int, seed: int) -> Radiance:
    """The denoised image. The same arguments give the same noise."""
    mi = mitsuba()
    scene = _scene(mi, stage, size, samples)
    path = mi.load_dict({"type": "path", "max_depth": 6, "rr_depth": 4})
    guides = mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})
    colour = np.array(mi.render(scene, integrator=path, seed=seed, spp=samples), dtype=np.float32)
    layers = np.array(mi.render(scene, integrator=guides, seed=seed, spp=GUIDE_SAMPLES), dtype=np.float32)
    return denoised(colour[:, :, :3], layers[:, :, -6:-3], layers[:, :, -3:])


def denoised(colour: Radiance, albedo: Radiance, normal: Radiance) -> Radiance:
    """Intel Open Image Denoise on the CPU, guided by albedo and normal."""
    import mitsuba_oidn as oidn

    clean = [np.ascontiguousarray(np.nan_to_num(x)) for x in (np.minimum(colour, FIREFLY), albedo.clip(0, 1), normal)]
    return np.array(oidn.denoise(clean[0], clean[1], clean[2], hdr=True, device=_denoiser()), dtype=np.float32)


@lru_cache(maxsize=1)
def _denoiser() -> Any:
    import mitsuba_oidn as oidn

    return oidn.Device(oidn.DeviceType.CPU)


def owner_map(stage: RenderScene, size: int) -> Owners:
    """Whose surface each pixel's first ray meets."""
    mi = mitsuba()
    world: dict[str, Any] = {"type": "scene", "camera": _camera(mi, stage, size, 1)}
    for owner, mesh in stage.bodies:
        world[f"s-{owner}"] = _shape(mi, [p for p in mesh if len(p.faces)], {}, f"s-{owner}", smooth=False)
    scene = mi.load_dict(world, optimize=False)
    integrator = mi.load_dict({"type": "aov", "aovs": "shape:shape_index"})
    layers = np.array(mi.render(scene, integrator=integrator, seed=0, spp=1), dtype=np.float32)
    # The layer counts shapes from 1 in the scene's order; 0 is the sky.
    owners = np.array([0] + [int(shape.id().split("-")[1]) for shape in scene.shapes()], dtype=np.uint8)
    return np.asarray(owners[np.rint(layers[:, :, -1]).astype(int)])


def _scene(mi: Any, stage: RenderScene, size: int, samples: int) -> Any:
    world: dict[str, Any] = {"type": "scene", "camera": _camera(mi, stage, size, samples)}
    world["sky"] = {
        "type": "envmap",
        "bitmap": mi.Bitmap(_outside() * np.array(stage.sky, dtype=np.float32)),
        "to_world": mi.ScalarTransform4f().rotate([1, 0, 0], 90),
        # Sampled by the surfaces alone: nearly every ray towards it would end at a wall.
        "sampling_weight": 0.0,
    }
    for i, sun in enumerate(stage.suns):
        world[f"sun{i}"] = {
            "type": "directional", "direction": list(sun.towards),
            "irradiance": {"type": "rgb", "value": list(sun.radiance)},
        }  # fmt: skip
    painted = mi.load_dict(_painted())
    for owner, mesh in stage.bodies:
        plain = [p for p in mesh if _is_plain(p.finish)]
        if plain:
            world[f"s-{owner}-{len(world)}"] = _painted_shape(mi, plain, painted, f"s-{owner}-{len(world)}")
        for part in mesh:
            if not _is_plain(part.finish) and len(part.faces):
                name = f"s-{owner}-{len(world)}"
                world[name] = _special_shape(mi, part, name)
    return mi.load_dict(world, optimize=False)


@lru_cache(maxsize=1)
def _outside() -> Radiance:
    """What is seen through the glass door behind the camera: sky, a hedge and a lawn, all around. (128, 256, 3)"""
    y = np.linspace(-1, 1, 128)[:, None, None]
    x = np.arange(256)[None, :, None] / 256 * 2 * np.pi
    hedge = -0.045 + 0.012 * np.sin(9 * x) + 0.008 * np.sin(31 * x)
    sky = np.array([0.75, 0.95, 1.25]) * (1.1 + 0.25 * y)
    lawn = np.array([0.16, 0.26, 0.07]) * (1.3 - 0.4 * y)
    seen = np.where(y < hedge, sky, np.where(y < 0.02, np.array([0.06, 0.12, 0.04]), lawn))
    return np.ascontiguousarray(seen, dtype=np.float32)


def _camera(mi: Any, stage: RenderScene, size: int, samples: int) -> dict[str, Any]:
    to_world = mi.ScalarTransform4f().look_at(origin=stage.eye, target=stage.target, up=[0, 0, 1])
    film = {"type": "hdrfilm", "width": size, "height": size, "pixel_format": "rgb",
            "rfilter": {"type": "box"}}  # fmt: skip
    sampler = {"type": "multijitter" if samples > 1 else "independent", "sample_count": samples}
    return {
        "type": "perspective", "fov": stage.view, "fov_axis": "x", "near_clip": 0.02, "far_clip": 100.0,
        "to_world": to_world, "film": film, "sampler": sampler,
    }  # fmt: skip


def _is_plain(finish: Finish) -> bool:
    return finish.texture is None and finish.emission is None and finish.opacity >= 1 and not finish.mirror


def _painted() -> dict[str, Any]:
    """One material for every plain surface; the colours travel with the vertices, so that few kernels are compiled."""
    attribute = {key: {"type": "mesh_attribute", "name": f"vertex_{key}"} for key in ("colour", "rough", "metal")}
    surface = {
        "type": "principled", "base_color": attribute["colour"], "roughness": attribute["rough"],
        "metallic": attribute["metal"], "specular": 0.4,
    }  # fmt: skip
    return {"type": "twosided", "nested": surface}


def _painted_shape(mi: Any, parts: list[MeshPart], surface: Any, name: str) -> Any:
    columns = []
    for part in parts:
        values = np.array([*part.finish.colour, part.finish.roughness, part.finish.metal], dtype=np.float32)
        columns.append(np.repeat(values[None], len(part.faces) * 3, axis=0))
    values = np.concatenate(columns)
    shape = _shape(mi, parts, {"bsdf": surface}, name)
    for key, columns_of in (("colour", slice(0, 3)), ("rough", slice(3, 4)), ("metal", slice(4, 5))):
        shape.add_attribute(f"vertex_{key}", values[:, columns_of].shape[1], values[:, columns_of].ravel())
    return shape


def _special_shape(mi: Any, part: MeshPart, name: str) -> Any:
    """A part with a texture, that glows, that mirrors or lets light through."""
    finish = part.finish
    emitter = None
    if finish.emission is not None:
        glow: Any = {"type": "rgb", "value": list(finish.emission)}
        if finish.texture is not None:
            glow = _bitmap(mi, finish.texture, scale=finish.emission)
        emitter = mi.load_dict({"type": "area", "radiance": glow})
    if finish.mirror:
        surface: dict[str, Any] = {"type": "conductor", "specular_reflectance": {"type": "rgb", "value": 0.92}}
    else:
        colour: dict[str, Any] = {"type": "rgb", "value": list(finish.colour)}
        if finish.texture is not None and emitter is None:
            colour = _bitmap(mi, finish.texture)
        surface = {
            "type": "principled", "base_color": colour, "roughness": finish.roughness,
            "metallic": finish.metal, "specular": 0.4,
        }  # fmt: skip
    surface = {"type": "twosided", "nested": surface}
    if finish.opacity < 1:
        surface = {"type": "mask", "opacity": finish.opacity, "nested": surface}
    properties = {"bsdf": mi.load_dict(surface)}
    return _shape(mi, [part], properties | ({"emitter": emitter} if emitter is not None else {}), name)


def _bitmap(mi: Any, texture: bytes | NDArray[np.uint8], scale: Colour | None = None) -> dict[str, Any]:
    image = Image.open(io.BytesIO(texture)).convert("RGB") if isinstance(texture, bytes) else Image.fromarray(texture)
    smooth = Image.Resampling.BOX if image.width > TEXTURE else Image.Resampling.BILINEAR
    pixels = np.asarray(image.resize((TEXTURE, TEXTURE), smooth))
    if scale is None:
        return {"type": "bitmap", "bitmap": mi.Bitmap(np.array(pixels)), "wrap_mode": "repeat"}
    linear = (pixels.astype(np.float32) / 255) ** 2.2 * np.array(scale, dtype=np.float32)
    return {"type": "bitmap", "bitmap": mi.Bitmap(linear), "raw": True, "wrap_mode": "clamp"}


def _shape(mi: Any, parts: list[MeshPart], properties: dict[str, Any], name: str, smooth: bool = True) -> Any:
    """A Mitsuba mesh with three vertices for each triangle. smooth: with normals and textures, as images need."""
    corners = np.concatenate([p.corners for p in parts]).astype(np.float32).reshape(-1, 3)
    textured = smooth and any(p.uv is not None for p in parts)
    made = mi.Properties()
    for key, value in properties.items():
        made[key] = value
    shape = mi.Mesh(name, len(corners), len(corners) // 3, made, smooth, textured)
    values = mi.traverse(shape)
    values["vertex_positions"] = corners.ravel()
    if smooth:
        shading = np.concatenate([normals(p) for p in parts]).astype(np.float32)
        values["vertex_normals"] = shading.ravel()
    values["faces"] = np.arange(len(corners), dtype=np.uint32)
    if textured:
        uv = [np.zeros((len(p.faces), 3, 2)) if p.uv is None else p.uv for p in parts]
        flipped = np.concatenate(uv) * [1.0, -1.0] + [0.0, 1.0]  # Mitsuba counts rows of a texture from above
        values["vertex_texcoords"] = flipped.astype(np.float32).ravel()
    values.update()
    return shape


def tone(radiance: Radiance, exposure: float) -> Image.Image:
    """Radiance to an 8-bit image: exposure, a soft shoulder for what is bright, sRGB."""
    x = np.maximum(radiance * exposure, 0.0)
    bright: Floats = np.where(x <= KNEE, x, KNEE + (1 - KNEE) * (1 - np.exp(-(x - KNEE) / (1 - KNEE))))
    srgb = np.where(bright <= 0.0031308, 12.92 * bright, 1.055 * bright ** (1 / 2.4) - 0.055)
    return Image.fromarray((srgb.clip(0, 1) * 255 + 0.5).astype(np.uint8))
