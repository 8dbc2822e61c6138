"""By which names a server may be called: its own, and no website's."""

import pytest

from services.query.http.hosts import AllowedHosts

HOSTS = AllowedHosts(["passerby-query", "People.example", "*.search.example"])


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1", "10.0.0.7:8080", "[::1]:8080"),
        *("passerby-query:8080", "people.example", "people.example.:443"),
        *("a.search.example", "a.b.search.example:8080"),
    ],
)
def test_its_own_names_and_every_address_are_allowed(host: str) -> None:
    assert HOSTS.allows(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "elsewhere.example", "localhost.elsewhere.example", "127.0.0.1.elsewhere.example"),
        *("passerby-query.elsewhere.example", "xpeople.example", "sub.people.example"),
        *(
            "search.example",
            "xsearch.example",
            "[::1",
            "localhost\xff",
            "localhost@elsewhere.example",
        ),
        *("0x7f000001", "2130706433", "people.example,elsewhere.example"),
    ],
)
def test_no_other_name_is_allowed(host: str) -> None:
    assert not HOSTS.allows(host)


def test_none_is_checked_if_any_name_is_allowed() -> None:
    assert AllowedHosts(["*"]).allows("elsewhere.example")
    assert not AllowedHosts([]).allows("elsewhere.example")
