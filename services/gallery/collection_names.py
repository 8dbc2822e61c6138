"""What collections and aliases in Milvus are called, written and read in one place."""

from dataclasses import dataclass
from typing import Self

_VECTORS, _GALLERY = "vectors_", "gallery_"


@dataclass(frozen=True)
class CollectionName:
    """The collection of one gallery's vectors by one model version, `vectors_<version>_<gallery>`.

    Milvus takes no hyphens in names and galleries have no underscores, so the one stands for the
    other; versions have neither.
    """

    gallery: str
    version: str

    def __str__(self) -> str:
        return f"{_VECTORS}{self.version}_{_stored(self.gallery)}"

    @classmethod
    def parse(cls, collection: str) -> Self | None:
        """None for a collection that is not ours."""
        version, separator, gallery = collection.removeprefix(_VECTORS).partition("_")
        if not (collection.startswith(_VECTORS) and version and separator and gallery):
            return None
        return cls(_shown(gallery), version)


def alias_name(gallery: str) -> str:
    """The alias of the collection that serves the gallery."""
    return f"{_GALLERY}{_stored(gallery)}"


def gallery_of_alias(alias: str) -> str | None:
    """None for an alias that is not ours."""
    return _shown(alias.removeprefix(_GALLERY)) if alias.startswith(_GALLERY) else None


def _stored(gallery: str) -> str:
    return gallery.replace("-", "_")


def _shown(stored: str) -> str:
    return stored.replace("_", "-")
