"""The colours that people name: how each looks, what it is called, what it is taken for."""

from dataclasses import dataclass
from random import Random

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Colour:
    rgb: Rgb
    words: tuple[str, ...]
    """What people call it, the commonest first."""
    near: tuple[str, ...]
    """Colours that a careless eye takes it for."""


# Far enough apart that shade() and a camera's cast do not turn one into another.
CLOTH = {
    "black": Colour((27, 27, 31), ("black", "black", "dark"), ("navy",)),
    "white": Colour((240, 240, 237), ("white", "white", "white", "ivory"), ("beige",)),
    "grey": Colour((134, 136, 140), ("grey", "grey", "gray", "gray", "ash grey"), ("black",)),
    "red": Colour((207, 33, 38), ("red", "red", "bright red", "scarlet"), ("dark red", "orange")),
    "dark red": Colour(
        (108, 20, 36), ("dark red", "maroon", "burgundy", "crimson"), ("red", "brown")
    ),
    "orange": Colour((241, 128, 26), ("orange", "orange", "bright orange"), ("red", "yellow")),
    "yellow": Colour(
        (244, 211, 48), ("yellow", "yellow", "bright yellow", "lemon yellow"), ("orange",)
    ),
    "green": Colour((42, 132, 62), ("green", "green", "green", "dark green", "emerald"), ("blue",)),
    "light blue": Colour((140, 190, 236), ("light blue", "sky blue", "pale blue"), ("blue",)),
    "blue": Colour(
        (38, 84, 202), ("blue", "blue", "blue", "bright blue", "royal blue"), ("navy", "light blue")
    ),
    "navy": Colour((24, 33, 84), ("navy", "navy blue", "dark blue"), ("black", "blue")),
    "purple": Colour(
        (121, 54, 160), ("purple", "purple", "purple", "violet"), ("blue", "dark red")
    ),
    "pink": Colour(
        (245, 150, 186), ("pink", "pink", "pink", "light pink", "rose"), ("red", "purple")
    ),
    "brown": Colour(
        (112, 70, 38), ("brown", "brown", "brown", "dark brown", "chocolate"), ("dark red", "black")
    ),
    "beige": Colour((214, 194, 156), ("beige", "tan", "cream", "khaki"), ("white", "brown")),
}

HAIR = {
    "black": Colour((30, 26, 26), ("black", "black", "dark"), ("brown",)),
    "brown": Colour((96, 60, 34), ("brown", "brown", "dark brown"), ("black",)),
    "blond": Colour((222, 184, 104), ("blond", "blonde", "fair"), ("brown",)),
    "grey": Colour((172, 172, 172), ("grey", "gray", "white"), ("blond",)),
    "ginger": Colour((184, 84, 34), ("ginger", "red"), ("brown",)),
}

SKIN: dict[str, Rgb] = {
    "pale": (243, 208, 184),
    "light": (229, 184, 150),
    "tan": (198, 146, 108),
    "brown": (146, 98, 66),
    "dark": (92, 60, 42),
}


def shade(rgb: Rgb, rng: Random) -> Rgb:
    """The colour as one dyer made it: up to 8 % lighter or darker, 6 steps off in each channel."""
    light = rng.uniform(0.92, 1.08)
    return _rgb(*(channel * light + rng.uniform(-6, 6) for channel in rgb))


def scaled(rgb: Rgb, factor: float) -> Rgb:
    """Darker (factor < 1) or lighter (> 1)."""
    return _rgb(*(channel * factor for channel in rgb))


def _rgb(red: float, green: float, blue: float) -> Rgb:
    return _byte(red), _byte(green), _byte(blue)


def _byte(value: float) -> int:
    return max(0, min(255, round(value)))
