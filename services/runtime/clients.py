"""Who a client is: an address, behind proxies that are trusted the one that they forward for."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import unquote

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Clients:
    """trusted: networks of proxies, whose X-Forwarded-For is believed; nobody else's is."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]

    def is_proxy(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._trusted)

    def client(self, peer: str, forwarded: str = "") -> str:
        """A name for whoever is at the other end.

        peer: the address that the connection comes from. forwarded: the header X-Forwarded-For.
        Of the addresses in it, each proxy has appended whom it saw: the last one that is not a
        trusted proxy's is the client's; what stands before it is what the client says.
        """
        hops = [hop.strip() for hop in forwarded.split(",")] if forwarded else []
        while hops and self.is_proxy(peer) and _parsed(hops[-1]) is not None:
            peer = hops.pop()
        address = _parsed(peer)
        if isinstance(address, ipaddress.IPv6Address):
            # Whoever has one address of IPv6 has a network of them.
            return str(ipaddress.ip_network((address, 64), strict=False))
        return peer


def address_of(grpc_peer: str) -> str:
    """The address in what gRPC calls a peer, for example `ipv4:10.0.0.7:5000`."""
    kind, _, rest = unquote(grpc_peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind.startswith("ip") else kind


def _parsed(address: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
