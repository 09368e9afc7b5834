"""Names below `localhost` are resolved without the machine's resolver."""

import socket

import pytest

from local.names import resolve_localhost


@pytest.fixture(autouse=True)
def resolver(monkeypatch):
    """Replace the machine's resolver during a test; return the list of names that it is asked to resolve."""
    asked = []

    def getaddrinfo(host, *arguments, **named):
        asked.append(host)
        return [host]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("name", ["d1.cloudfront.localhost", "A.LOCALHOST", "a.localhost.", b"a.localhost"])
def test_name_below_localhost_is_this_machine(name):
    resolve_localhost()
    assert socket.getaddrinfo(name, 80) == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["localhost.example.com", "example.com", "notlocalhost", None])
def test_every_other_name_is_left_to_the_resolver(name):
    resolve_localhost()
    assert socket.getaddrinfo(name, 80) == [name]


def test_resolver_is_installed_once():
    resolve_localhost()
    once = socket.getaddrinfo
    resolve_localhost()
    assert socket.getaddrinfo is once
