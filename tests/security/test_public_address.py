"""Addresses that a team may call: what is not public is recognized in every notation."""

from __future__ import annotations

import pytest

from app.security.public_address import is_public_ip, may_be_public

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "fec0::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:0:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:53aa:64c:0:0:0:0",
    "ff02::1",
    "no address",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_told(address: str) -> None:
    assert not is_public_ip(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_what_is_public_is_told(address: str) -> None:
    assert is_public_ip(address)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "169。254。169。254",
        "[::ffff:7f00:1]",
        "localhost",
        "service.local",
        "metadata.google.internal",
        "x.ｌocal",
        "redis",
        "",
    ],
)
def test_a_host_that_is_private_by_its_form_is_told(host: str) -> None:
    assert not may_be_public(f"https://{host}/v1")


@pytest.mark.parametrize(
    "host", ["api.openai.com", "8.8.8.8", "bücher.example", "[2606:4700::1111]:8443", "mock.invalid"]
)
def test_other_hosts_may_be_public(host: str) -> None:
    assert may_be_public(f"https://{host}/v1")
