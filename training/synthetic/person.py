"""A person as a witness would describe one: the attributes that drawing and captions share."""

from dataclasses import dataclass
from typing import Literal

Gender = Literal["man", "woman"]
Age = Literal["child", "young", "adult", "old"]
Build = Literal["slim", "medium", "heavy"]
HairStyle = Literal["bald", "short", "curly", "bob", "long", "ponytail", "bun"]
UpperKind = Literal[
    "t-shirt", "shirt", "polo shirt", "blouse", "sweater", "hoodie", "tank top", "dress"
]
CoatKind = Literal["jacket", "coat", "blazer", "cardigan", "down jacket"]
LowerKind = Literal["jeans", "trousers", "shorts", "leggings", "skirt"]
ShoeKind = Literal["sneakers", "shoes", "boots", "sandals"]
Pattern = Literal["plain", "striped", "checked", "dotted", "logo"]
Sleeve = Literal["none", "short", "long"]
Length = Literal["short", "knee", "ankle"]
BagKind = Literal["backpack", "shoulder bag", "handbag", "suitcase"]
HatKind = Literal["cap", "beanie", "sun hat"]
EyewearKind = Literal["glasses", "sunglasses"]
HeldKind = Literal["phone", "umbrella", "bottle", "book", "shopping bag", "cup"]


@dataclass(frozen=True)
class Hair:
    style: HairStyle
    colour: str


@dataclass(frozen=True)
class Upper:
    kind: UpperKind
    colour: str
    sleeve: Sleeve
    pattern: Pattern = "plain"
    accent: str = ""
    """The pattern's second colour; empty if plain."""
    length: Length = "short"
    """How far down a dress reaches; means nothing for the other kinds."""


@dataclass(frozen=True)
class Coat:
    """Worn open over the upper garment: from the front both are seen, else only the coat."""

    kind: CoatKind
    colour: str


@dataclass(frozen=True)
class Lower:
    kind: LowerKind
    colour: str
    pattern: Pattern = "plain"
    accent: str = ""
    length: Length = "ankle"


@dataclass(frozen=True)
class Shoes:
    kind: ShoeKind
    colour: str


@dataclass(frozen=True)
class Bag:
    kind: BagKind
    colour: str


@dataclass(frozen=True)
class Hat:
    kind: HatKind
    colour: str


@dataclass(frozen=True)
class Held:
    kind: HeldKind
    colour: str

    @property
    def is_raised(self) -> bool:
        """Whether the arm that holds it is bent; else it hangs down."""
        return self.kind in ("phone", "book", "cup", "umbrella")

    @property
    def is_before_the_chest(self) -> bool:
        """Where the back hides it; an umbrella is seen above the head."""
        return self.is_raised and self.kind != "umbrella"


@dataclass(frozen=True)
class Person:
    """Colours are keys of palette.CLOTH, the hair's of palette.HAIR, the skin of palette.SKIN."""

    gender: Gender
    age: Age
    build: Build
    skin: str
    hair: Hair
    beard: bool
    upper: Upper
    coat: Coat | None
    lower: Lower | None
    """None under a dress."""
    shoes: Shoes
    bag: Bag | None
    hat: Hat | None
    eyewear: EyewearKind | None
    held: Held | None
    scarf: str | None
    """The scarf's colour."""
    shades: int
    """Seed of the exact shades and proportions, which stay the same in all of one's images."""
