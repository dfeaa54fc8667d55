"""Pictures that are no scenes: noise, gradients, textures, overlapping shapes, torn scenes. A detector must say so.

Nothing here was taken from a photograph. Noise whose power falls with frequency and shapes that cover one another have
the statistics of natural images (Ruderman 1994; Lee, Mumford and Huang 2001). Try it:

    no_scene(np.random.default_rng(0)).show()
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from anomreason.scenes.sprites.sprite import vendored
from anomreason.scenes.sprites.table import table
from anomreason.scenes.sprites.world import SpriteWorld

EDGE = 256
Floats = npt.NDArray[np.float64]


def no_scene(rng: np.random.Generator) -> Image.Image:
    """One such picture, EDGE pixels square."""
    makers: tuple[Callable[[np.random.Generator], Image.Image], ...] = (
        _noise,
        _gradient,
        _dead_leaves,
        _dead_leaves,
        _dead_leaves,
        _strokes,
        _torn,
        _close_up,
        _blended,
    )
    picture = makers[int(rng.integers(len(makers)))](rng)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2.5))))
    if rng.random() < 0.15:
        picture = picture.convert("L").convert("RGB")
    return picture


def _image(values: Floats) -> Image.Image:
    """values: (EDGE, EDGE, 3), 0..1."""
    return Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8))


def _field(rng: np.random.Generator, fall: float) -> Floats:
    """(EDGE, EDGE) noise with amplitude ~ frequency ** -fall, mean 0, deviation 1."""
    fy, fx = np.fft.fftfreq(EDGE)[:, None], np.fft.rfftfreq(EDGE)[None, :]
    size = np.hypot(fy, fx)
    size[0, 0] = np.inf
    spectrum = (rng.normal(size=size.shape) + 1j * rng.normal(size=size.shape)) * size**-fall
    values = np.fft.irfft2(spectrum, s=(EDGE, EDGE))
    return np.asarray((values - values.mean()) / values.std())


def _colours(rng: np.random.Generator) -> Floats:
    """(3, 3): how three fields mix into colours; the first is grey and strongest, as in nature."""
    return np.array([[0.16], [0.0], [0.0]]) + rng.normal(size=(3, 3)) * 0.05


def _noise(rng: np.random.Generator) -> Image.Image:
    fall = float(rng.uniform(0.0, 2.0))
    fields = np.stack([_field(rng, fall) for _ in range(3)], axis=-1)
    return _image(rng.uniform(0.25, 0.75, size=3) + fields @ _colours(rng))


def _gradient(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    turn = rng.uniform(0, 2 * np.pi)
    along = (np.cos(turn) * x + np.sin(turn) * y - min(0.0, np.cos(turn)) - min(0.0, np.sin(turn)))[..., None]
    if rng.random() < 0.4:
        along = np.hypot(x - rng.random(), y - rng.random())[..., None]
    first, second = rng.random(3), rng.random(3)
    return _image(first + (second - first) * along.clip(0, 1) + rng.normal(size=(EDGE, EDGE, 1)) * rng.uniform(0, 0.04))


def _texture(rng: np.random.Generator) -> Floats:
    """(EDGE, EDGE, 3): a colour, roughened, perhaps striped, perhaps shaded to one side."""
    base = np.full((EDGE, EDGE, 3), rng.uniform(0.05, 0.95) + rng.normal(size=3) * 0.12)
    base += _field(rng, float(rng.uniform(0.6, 2.0)))[..., None] * rng.uniform(0.0, 0.16)
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    turn = rng.uniform(0, np.pi)
    across = np.cos(turn) * x + np.sin(turn) * y
    if rng.random() < 0.3:
        base += (np.sin(across * rng.uniform(20, 200)) * rng.uniform(0.02, 0.15))[..., None]
    return np.asarray(base + ((across - 0.5) * rng.uniform(-0.5, 0.5))[..., None])


def _dead_leaves(rng: np.random.Generator) -> Image.Image:
    """Textured shapes of all sizes, one over the other."""
    picture = _image(_texture(rng))
    textures = [_image(_texture(rng)) for _ in range(int(rng.integers(3, 7)))]
    least = float(rng.uniform(4, 16))
    for _ in range(int(rng.integers(20, 160))):
        radius = least / max(rng.random(), 0.04)
        mask = Image.new("L", (EDGE, EDGE))
        _shape(ImageDraw.Draw(mask), rng, radius)
        if rng.random() < 0.3:
            mask = mask.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3))))
        picture.paste(textures[int(rng.integers(len(textures)))], (0, 0), mask)
    return picture


def _shape(draw: ImageDraw.ImageDraw, rng: np.random.Generator, radius: float) -> None:
    x, y = rng.uniform(0, EDGE, size=2)
    if rng.random() < 0.4:
        wide, high = radius * rng.uniform(0.3, 1, size=2)
        draw.ellipse((x - wide, y - high, x + wide, y + high), fill=255)
        return
    turns = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(3, 9))))
    reach = radius * rng.uniform(0.4, 1, size=len(turns))
    draw.polygon([(x + r * np.cos(t), y + r * np.sin(t)) for t, r in zip(turns, reach, strict=True)], fill=255)


def _strokes(rng: np.random.Generator) -> Image.Image:
    """A drawing: lines, boxes and letters on paper."""
    picture = Image.new("RGB", (EDGE, EDGE), tuple(int(v) for v in rng.integers(150, 256, size=3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 60))):
        ink = tuple(int(v) for v in rng.integers(0, 200, size=3))
        points = [tuple(p) for p in rng.uniform(0, EDGE, size=(int(rng.integers(2, 5)), 2))]
        if rng.random() < 0.2:
            draw.text(points[0], "".join(chr(c) for c in rng.integers(65, 91, size=6)), fill=ink)
        elif rng.random() < 0.3:
            (x0, y0), (x1, y1) = points[:2]
            draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=ink, width=2)
        else:
            draw.line(points, fill=ink, width=int(rng.integers(1, 6)), joint="curve")
    return picture


def _torn(rng: np.random.Generator) -> Image.Image:
    """A scene whose squares lie in another order."""
    scene = SpriteWorld().draw(int(rng.integers(2**30)), size=EDGE).image
    parts = int(rng.choice([2, 4, 8]))
    step, picture = EDGE // parts, Image.new("RGB", (EDGE, EDGE))
    for k, there in enumerate(rng.permutation(parts * parts)):
        x, y = (there % parts) * step, (there // parts) * step
        square = scene.crop((x, y, x + step, y + step)).rotate(90 * int(rng.integers(4)))
        picture.paste(square, ((k % parts) * step, (k // parts) * step))
    return picture


def _close_up(rng: np.random.Generator) -> Image.Image:
    """A small part of a scene, much enlarged and turned."""
    scene = SpriteWorld().draw(int(rng.integers(2**30)), size=EDGE).image
    edge = int(rng.integers(24, 90))
    x, y = (int(v) for v in rng.integers(0, EDGE - edge, size=2))
    part = scene.crop((x, y, x + edge, y + edge)).resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    return part.rotate(90 * int(rng.integers(1, 4)))


def _blended(rng: np.random.Generator) -> Image.Image:
    """Things scattered over a texture, in any size and turn: no ground, no light."""
    picture = _dead_leaves(rng) if rng.random() < 0.5 else _image(_texture(rng))
    names = [thing.picture for thing in table().things if thing.drawn is None]
    for _ in range(int(rng.integers(0, 14))):
        one = vendored(names[int(rng.integers(len(names)))])
        edge = int(rng.integers(16, 200))
        one = one.resize((edge, edge)).rotate(float(rng.uniform(0, 360)), expand=True)
        left, top = (int(v) for v in rng.integers(-40, EDGE, size=2))
        picture.paste(one, (left, top), one)
    return picture
