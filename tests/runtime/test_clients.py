"""Who a client is: nobody chooses their own name, and a proxy's clients are told apart."""

import pytest

from services.runtime.clients import Clients, address_of

PROXIES = Clients(["10.1.0.0/16", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.1.0.9", "198.51.100.7", "198.51.100.7"),
        ("10.1.0.9", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.1.0.9", "198.51.100.7, 10.1.7.7", "198.51.100.7"),
        ("::ffff:10.1.0.9", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "198.51.100.7", "198.51.100.7"),
        ("10.1.0.9", "198.51.100.7, me", "10.1.0.9"),
        ("10.1.0.9", "", "10.1.0.9"),
        ("10.1.0.9", "10.1.0.3", "10.1.0.3"),
        ("2001:db8:1:2::3", "", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::/64"),
        ("", "", ""),
    ],
)
def test_a_client_is_whom_the_last_trusted_proxy_saw(
    peer: str, forwarded: str, client: str
) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_no_proxy_is_trusted_unless_it_is_named() -> None:
    assert Clients().client("10.1.0.9", "198.51.100.7") == "10.1.0.9"


def test_the_address_is_taken_out_of_what_grpc_calls_a_peer() -> None:
    assert address_of("ipv4:10.0.0.7:5000") == "10.0.0.7"
    assert address_of("ipv6:%5B::1%5D:5000") == "::1"
    assert address_of("unix:/run/socket") == "unix"
