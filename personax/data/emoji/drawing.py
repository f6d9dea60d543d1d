"""The picture of a scene: a background, the sprites on it, averaged to 32x32."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from personax.core.tree import nearest
from personax.data.emoji.world import (
    ACCESSORIES,
    COLOURS,
    SCENES,
    Colour,
    Scene,
    Sprite,
    Sprites,
)

SIDE = 64  # drawn at twice the size of the picture, then averaged 2x2


class Frame(NamedTuple):
    """A subject's size in [low, high), and its range of positions."""

    low: int
    high: int
    spread: float  # share of the free room
    up: float  # the highest vertical position; -1 is the top of the free room
    worn: int = 44  # the largest size with room for a hat


FRAMES = {
    None: Frame(40, 54, 0.8, -0.4),
    "near": Frame(62, 84, 0.25, -1),
    "far": Frame(18, 28, 0.8, -1),
}


def render(
    rng: np.random.Generator,
    sprites: Sprites,
    scene: Scene,
    frame: Frame | None = None,
) -> UInt8[np.ndarray, "32 32 3"]:
    """A uint8 picture of `scene`; `rng` decides sizes, positions and shades.

    `frame` replaces that of the scene's distance. Raises ValueError, with the nearest
    ones, for a sprite that does not exist.
    """
    image = _background(rng, scene.place)
    rgba = _sprite(sprites, scene.subject)
    if scene.colour:
        rgba = _tint(rgba, COLOURS[scene.colour])
    frame = frame or FRAMES[scene.distance]
    size = int(rng.integers(frame.low, frame.high))
    room = abs(SIDE - size) / 2 * frame.spread
    x = SIDE / 2 + rng.uniform(-1, 1) * room
    y = SIDE / 2 + rng.uniform(frame.up, 1) * room
    if scene.accessory:
        # Low enough for a hat above.
        size, y = min(size, frame.worn), max(y, SIDE / 2 + 4)
        worn = ACCESSORIES[scene.accessory[0]]
        _paste(image, rgba, x, y, size)
        hat = _sprite(sprites, scene.accessory)
        _paste(image, hat, x, y + worn.offset * size, int(worn.size * size))
    elif scene.other:
        _paste(image, rgba, SIDE / 4, y, int(rng.integers(27, 33)))
        other = _sprite(sprites, scene.other)
        _paste(image, other, 3 * SIDE / 4, y, int(rng.integers(27, 33)))
    else:
        _paste(image, rgba, x, y, size)
    return np.array(image.reduce(2))


def _background(rng: np.random.Generator, place: str) -> Image.Image:
    if place in COLOURS:
        return Image.new("RGB", (SIDE, SIDE), _jitter(rng, COLOURS[place], 15))
    land = SCENES[place]
    sky, ground = _jitter(rng, land.sky), _jitter(rng, land.ground)
    horizon = int(SIDE * (land.horizon + rng.uniform(-0.06, 0.06)))
    image = Image.new("RGB", (SIDE, SIDE), sky)
    draw = ImageDraw.Draw(image)
    if place in _BEHIND:
        _BEHIND[place](rng, draw, horizon)
    draw.rectangle([0, horizon, SIDE, SIDE], fill=ground)
    if place in _IN_FRONT:
        _IN_FRONT[place](rng, draw, horizon)
    return image


def _jitter(rng: np.random.Generator, colour: Colour, amount: int = 12) -> Colour:
    shifted = np.array(colour) + rng.integers(-amount, amount + 1, 3)
    red, green, blue = shifted.clip(0, 255).tolist()
    return red, green, blue


def _water(rng, draw, horizon):
    draw.rectangle([0, horizon - 9, SIDE, horizon], fill=(50, 130, 210))


def _stars(rng, draw, horizon):
    for _ in range(14):
        x, y = int(rng.integers(0, SIDE)), int(rng.integers(0, horizon))
        draw.point((x, y), fill=(255, 255, 220))


def _houses(rng, draw, horizon):
    left = 0
    while left < SIDE:
        width, top = int(rng.integers(8, 15)), int(rng.integers(10, 35))
        shade = int(rng.integers(90, 170))
        wall = (shade, shade, shade + 10)
        draw.rectangle([left, top, left + width - 1, horizon], fill=wall)
        for y in range(top + 3, horizon - 2, 5):
            for x in range(left + 2, left + width - 2, 4):
                draw.rectangle([x, y, x + 1, y + 2], fill=(250, 230, 140))
        left += width


def _mountain(rng, draw, horizon):
    x, top = int(rng.integers(15, 50)), int(rng.integers(8, 20))
    rock = [(x - 38, horizon), (x, top), (x + 38, horizon)]
    draw.polygon(rock, fill=(125, 120, 130))
    snow = [(x - 9, top + 11), (x, top), (x + 9, top + 11)]
    draw.polygon(snow, fill=(250, 250, 250))


def _dune(rng, draw, horizon):
    shade = _jitter(rng, (230, 165, 95))
    draw.ellipse([-20, horizon - 8, 40, horizon + 30], fill=shade)


def _leaves(rng, draw, horizon):
    for _ in range(12):
        x, y = int(rng.integers(-6, SIDE)), int(rng.integers(-6, horizon))
        size = int(rng.integers(8, 18))
        leaf = _jitter(rng, (45, 140, 60), 25)
        draw.ellipse([x, y, x + size, y + size // 2], fill=leaf)


def _bubbles(rng, draw, horizon):
    for _ in range(8):
        x, y = int(rng.integers(0, SIDE)), int(rng.integers(0, SIDE))
        draw.ellipse([x, y, x + 3, y + 3], outline=(190, 225, 250))


# Drawn behind the horizon, and over the ground.
_BEHIND = {
    "on the beach": _water,
    "at night": _stars,
    "in the city": _houses,
    "with a mountain in the background": _mountain,
}
_IN_FRONT = {
    "in the desert": _dune,
    "in the jungle": _leaves,
    "under the sea": _bubbles,
}


def _sprite(sprites: Sprites, sprite: Sprite) -> UInt8[np.ndarray, "64 64 4"]:
    if sprite not in sprites:
        name, near = "|".join(sprite), nearest("|".join(sprite), map("|".join, sprites))
        raise ValueError(f"Unknown sprite {name!r}; nearest: {near}.")
    return sprites[sprite]


def _tint(
    rgba: UInt8[np.ndarray, "64 64 4"], colour: Colour
) -> UInt8[np.ndarray, "64 64 4"]:
    """The sprite in another colour, its lightness preserved."""
    light = rgba[..., :3].mean(-1, keepdims=True, dtype=np.float32) / 255
    target = np.array(colour, np.float32)
    dark = target * light * 1.8
    bright = target + (255 - target) * (light - 0.5) * 1.4
    out = rgba.copy()
    out[..., :3] = np.where(light < 0.5, dark, bright).clip(0, 255)
    return out


def _paste(
    image: Image.Image,
    rgba: UInt8[np.ndarray, "64 64 4"],
    x: float,
    y: float,
    size: int,
) -> None:
    sprite = Image.fromarray(rgba).resize((size, size), Image.Resampling.BICUBIC)
    image.paste(sprite, (int(x - size / 2), int(y - size / 2)), sprite)
