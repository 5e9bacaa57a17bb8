"""Which addresses webhooks may go to: exactly those that the operator's list means."""

import pytest

from service.config import read_settings
from service.errors import SettingsInvalid
from service.webhook_target import find_target, parse_targets

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TARGETS = parse_targets("https://pipeline.example:8443/hooks, http://127.0.0.1:9000 https://[fd00::1]/a/")


@pytest.mark.parametrize(
    "address",
    [
        "https://pipeline.example:8443/hooks",
        "https://pipeline.example:8443/hooks/",
        "https://pipeline.example:8443/hooks/radfuse?run=7&key=a%20b",
        "HTTPS://Pipeline.Example:8443/hooks/a",
        "http://127.0.0.1:9000",
        "http://127.0.0.1:9000/anything",
        "http://127.0.0.1:9000?x=1",
        "https://[fd00::1]:443/a/b",
    ],
)
def test_addresses_on_the_list_are_let_in(address: str) -> None:
    assert find_target(address, TARGETS) is not None


@pytest.mark.parametrize(
    "address",
    [
        "http://pipeline.example:8443/hooks",
        "https://pipeline.example/hooks",
        "https://pipeline.example:8443/hooksx",
        "https://pipeline.example:8443/hooks/../admin",
        "https://pipeline.example:8443/hooks/%2e%2e/admin",
        "https://pipeline.example:8443/hooks/./a",
        "https://pipeline.example:8443/hooks\\..\\admin",
        "https://pipeline.example:8443@evil.example/hooks",
        "https://user:pass@pipeline.example:8443/hooks",
        "https://pipeline.example:8443/hooks#fragment",
        "https://pipeline.example:8443/hooks\r\nX: y",
        "https://pipeline.example:8443/ho oks",
        "https://pipeline.example.evil.example:8443/hooks",
        "https://pipeline.example:08443/hooks",
        "https://[fd00::1]/ab",
        "https://[fd00::2]/a/b",
        "//pipeline.example:8443/hooks",
        "file:///etc/passwd",
        "http://127.1:9000/",
        "http://2130706433:9000/",
        "",
        "https://pipeline.example:8443/hooks/" + "a" * 2000,
    ],
)
def test_every_other_address_is_kept_out(address: str) -> None:
    assert find_target(address, TARGETS) is None


def test_without_a_list_nothing_is_let_in() -> None:
    assert parse_targets("  ") == ()
    assert find_target("http://127.0.0.1:9000/", ()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"TARGETS": "https://a.example"}, "RADFUSE_WEBHOOK_SECRET is needed"),
        ({"TARGETS": "https://a.example ftp://b.example", "SECRET": KEY}, "entry 2"),
        ({"TARGETS": "https://a.example/?x=1", "SECRET": KEY}, "entry 1"),
        ({"TARGETS": "https://a.example:70000/", "SECRET": KEY}, "entry 1"),
        ({"TARGETS": "https://[::1::2]/", "SECRET": KEY}, "entry 1"),
        ({"SECRET": f"{KEY} whsec_c2hvcnQ="}, "key 2"),
        ({"SECRET": KEY.removeprefix("whsec_")}, "key 1"),
        ({"SECRET": "whsec_***"}, "key 1"),
    ],
)
def test_a_wrong_list_or_key_stops_the_start_without_being_repeated(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsInvalid, match=reason) as error:
        read_settings({f"RADFUSE_WEBHOOK_{name}": value for name, value in changes.items()})
    assert KEY.removeprefix("whsec_") not in str(error.value)
