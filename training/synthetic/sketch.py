"""What every part of a drawing needs to know: the brush, the person, the view and the body."""

from dataclasses import dataclass
from functools import cached_property
from random import Random

from training.synthetic.anatomy import Body, pose
from training.synthetic.brush import Brush, Ink
from training.synthetic.palette import CLOTH, HAIR, SKIN, shade
from training.synthetic.person import Lower, Person, Upper
from training.synthetic.view import View


@dataclass(frozen=True)
class Sketch:
    brush: Brush
    person: Person
    view: View

    @cached_property
    def body(self) -> Body:
        return pose(self.person, self.view)

    @property
    def from_behind(self) -> bool:
        return self.view.facing == "back"

    @property
    def from_front(self) -> bool:
        return self.view.facing == "front"

    def cloth(self, part: str, colour: str) -> Ink:
        """The colour in this person's own shade; `part` keeps equal colours apart."""
        return Ink(shade(CLOTH[colour].rgb, self._rng(part)))

    def garment(self, part: str, garment: Upper | Lower) -> Ink:
        """The garment's cloth with its pattern."""
        plain = self.cloth(part, garment.colour)
        if garment.pattern == "plain":
            return plain
        accent = self.cloth(f"{part} accent", garment.accent).colour
        return Ink(plain.colour, garment.pattern, accent)

    @cached_property
    def skin(self) -> Ink:
        return Ink(shade(SKIN[self.person.skin], self._rng("skin")))

    @cached_property
    def hair(self) -> Ink:
        return Ink(shade(HAIR[self.person.hair.colour].rgb, self._rng("hair")))

    def _rng(self, part: str) -> Random:
        return Random(f"{self.person.shades} {part}")  # noqa: S311
