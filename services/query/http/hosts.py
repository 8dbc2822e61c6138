"""By which names this server may be called: what keeps out DNS rebinding.

A website may have its own name resolve to any address that a visitor's browser reaches; to the
browser its pages are then of the same origin as this server, and may search, read and delete. What
the browser sends as Host stays the website's name.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit


class AllowedHosts:
    """names: besides localhost and every address; `*.example.org` stands for all below it, `*` for
    every name."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._any = "*" in names
        lowered = [name.lower() for name in names]
        self._names = {"localhost", *lowered}
        self._below = tuple(name.removeprefix("*") for name in lowered if name.startswith("*."))

    def allows(self, host: str) -> bool:
        """host: the header, with a port or without."""
        if self._any:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:  # a bracket too many
            return False
        # An address is no name that anybody could have resolve to something else.
        return name in self._names or name.endswith(self._below) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
