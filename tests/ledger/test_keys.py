"""API keys."""

from datetime import UTC, datetime

import pytest

from service.errors import InvalidField, NotFound
from service.ledger import Ledger
from tests.ledger.conftest import Clock


def test_a_key_opens_the_door_and_only_as_it_is(ledger: Ledger) -> None:
    assert not ledger.has_keys()
    key, secret = ledger.create_key("ward 3", ["read", "submit"], None)

    assert ledger.authenticate(secret) == key
    assert key.scopes == ("submit", "read")
    for wrong in (secret + "x", secret[:-1], secret.replace(key.id, "0" * 12), "", "rf_", "a_b_c", "rf__"):
        assert ledger.authenticate(wrong) is None
    assert ledger.has_keys()


def test_the_secret_is_not_in_the_ledger(ledger: Ledger) -> None:
    _, secret = ledger.create_key("ward 3", ["read"], None)
    with ledger.read() as (connection, _):
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()

    assert secret.split("_", 2)[2] not in repr(rows)


def test_a_revoked_key_is_refused_and_the_door_stays_locked(ledger: Ledger) -> None:
    key, secret = ledger.create_key("ward 3", ["admin"], None)

    revoked = ledger.revoke_key(key.id)

    assert ledger.authenticate(secret) is None
    assert ledger.revoke_key(key.id) == revoked
    assert ledger.list_keys() == [revoked]
    assert ledger.has_keys()
    with pytest.raises(NotFound):
        ledger.revoke_key("0" * 12)


def test_an_expired_key_is_refused(ledger: Ledger, clock: Clock) -> None:
    _, secret = ledger.create_key("ward 3", ["read"], datetime.fromtimestamp(clock.now + 10, UTC))
    assert ledger.authenticate(secret) is not None
    clock.advance(10)

    assert ledger.authenticate(secret) is None


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", "root"]])
def test_unknown_scopes_are_refused(ledger: Ledger, scopes: list[str]) -> None:
    with pytest.raises(InvalidField):
        ledger.create_key("ward 3", scopes, None)
