"""Where webhooks may not go: by hand, and by hypothesis over whole networks."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhooks.addresses import MAX_URL, Guard, is_public
from pipeline.settings import Settings

GUARD = Guard()
LOCAL = Guard(allow_http=True, allowed=(ipaddress.ip_network("127.0.0.0/8"),))

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:53aa:64c:0:fbdf:7f00:1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:0a00:0001::1", "3fff::1",
    "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1", "169.253.255.255",
    "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450:4001::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_no_special_address_is_called(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert GUARD.objection(f"https://{host}/hook") == "an address of the public internet"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert GUARD.objection(f"https://{host}:8443/hook?x=1") is None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_of_ipv4_nothing_passes_that_python_calls_special(address: IPv4Address) -> None:
    special = (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified or not address.is_global
    )  # fmt: skip
    assert not (special and is_public(address))


@given(st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0x2001 << 112, 0x2003 << 112).map(IPv6Address))
def test_of_ipv6_nothing_passes_that_python_calls_special(address: IPv6Address) -> None:
    special = (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified or address.is_site_local or not address.is_global
        or address.ipv4_mapped or address.sixtofour or address.teredo
    )  # fmt: skip
    assert not (special and is_public(address))


EMBEDDINGS = [("::ffff:0:0", 0), ("::", 0), ("::ffff:0:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("2001::", 64)]


@given(st.sampled_from(EMBEDDINGS), st.integers(0, 2**32 - 1))
def test_no_ipv4_address_gets_through_inside_an_ipv6_one(embedding: tuple[str, int], inner: int) -> None:
    prefix, shift = embedding
    assert not is_public(IPv6Address(int(IPv6Address(prefix)) | inner << shift))


WRONG = [
    "", "example.com", "https://", "https:///hook", "http://example.com/", "ftp://example.com/", "//example.com/",
    "https://user@example.com/", "https://user:pass@example.com/", "https://example.com/#x", "https://example.com:0/",
    "https://example.com:65536/", "https://example.com:443x/", "https://exa mple.com/", "https://example.com/a b",
    "https://example.com\\@127.0.0.1/", "https://example.com/\\", "https://example.com/\n", "https://ex\u00e4mple.com/",
    "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/",
    "https://0/", "https://1.1.1.1.1/", "https://[::1%25eth0]/", "https://[1.1.1.1]/x", "https://[]/", "https://[::g]/",
    "https://a..b/", "https://-a.com/", "https://a.com./", "javascript:alert(1)", "https://example.com?x=1",
    "https://example.com/" + "x" * MAX_URL, " https://example.com/", "https://127.0.0.1@8.8.8.8/",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG)
def test_urls_that_are_not_taken(url: str) -> None:
    assert GUARD.objection(url) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "HTTPS://Example.COM/Hook",
        "https://a.b-c.example:8443/x?y=%20z&q",
    ],
)
def test_urls_that_are(url: str) -> None:
    assert GUARD.objection(url) is None


@given(st.text(max_size=60))
def test_no_text_at_all_makes_the_guard_stumble(text: str) -> None:
    GUARD.objection(text)
    GUARD.objection(f"https://{text}/")


def test_local_receivers_need_a_setting_and_get_no_more_than_it_says() -> None:
    assert LOCAL.objection("http://127.0.0.1:8080/hook") is None
    assert LOCAL.objection("https://127.0.0.1/") is None
    assert LOCAL.objection("https://10.0.0.1/") is not None
    assert LOCAL.objection("https://[::ffff:127.0.0.1]/") is not None
    assert Guard(allow_http=True).objection("http://127.0.0.1/") is not None


def test_the_settings_are_closed_by_default() -> None:
    assert Guard.of(Settings(_env_file=None)) == Guard()
    opened = Settings(_env_file=None, webhook_allow_http=True, webhook_allowed_networks="127.0.0.0/8, ::1/128")
    assert Guard.of(opened).admits(ipaddress.ip_address("::1"))
    with pytest.raises(ValueError, match="network"):
        Guard.of(Settings(_env_file=None, webhook_allowed_networks="localhost"))
