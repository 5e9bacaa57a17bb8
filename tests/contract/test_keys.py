"""Who may do what: keys, scopes, owners, and the open and locked states without keys."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.api.keyring import REMEMBER_SECONDS, KeyRing
from service.ledger import Ledger
from tests.serving import Service, make_settings, serving

GUARDED = ["/features", "/features/x", "/features/x/preview.png", "/models", "/models/small-ct", "/metrics"]
OPEN = ["/livez", "/readyz"]
PAGES = ["/docs", "/openapi.json", "/problems", "/problems/not-found"]


def bearer(service: Service, *scopes: str, expires: datetime | None = None) -> dict[str, str]:
    _, secret = service.context.ledger.create_key("test", scopes, expires)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def keyed(service: Service) -> Service:
    """A service with a key of every scope, which `service.headers` carries."""
    service.headers = bearer(service, "submit", "read", "admin")
    return service


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Service]:
    """A service for an address beyond loopback, without any key."""
    with serving(make_settings(tmp_path_factory.mktemp("locked"), models, host="0.0.0.0")) as running:
        yield running


def test_without_keys_loopback_is_open_to_the_machine(service: Service) -> None:
    job = service.accepted()
    assert service.context.ledger.find_job(job["id"], "local").owner == "local"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_open_service_refuses_other_sites_pages(shared: Service, site: str) -> None:
    answer = shared.submit(headers={"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), ("localhost:1", 200), ("[::1]:80", 200)])
def test_an_open_service_refuses_rebound_names(shared: Service, host: str, status: int) -> None:
    assert shared.get("/features", Host=host).status_code == status


@pytest.mark.parametrize("path", GUARDED + PAGES)
def test_a_locked_service_says_how_to_make_a_key(locked: Service, path: str) -> None:
    answer = locked.get(path)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    assert "radfuse keys create" in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(locked: Service, path: str) -> None:
    assert locked.get(path).status_code in (200, 503)
    assert "checks" in locked.get(path).json() or locked.get(path).json() == {"status": "alive"}


def test_the_first_key_closes_an_open_service_at_once(service: Service) -> None:
    assert service.get("/features").status_code == 200
    bearer(service, "read")
    assert service.get("/features").status_code == 401


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("value", [None, "Bearer rf_000000000000_wrong", "Bearer", "Basic dTpw", "Bearer x"])
def test_a_missing_or_wrong_key_is_401(keyed: Service, path: str, value: str | None) -> None:
    answer = keyed.http.get(path, headers={"Authorization": value} if value else {})
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", PAGES)
def test_the_documentation_needs_no_key_once_there_is_one(keyed: Service, path: str) -> None:
    assert keyed.http.get(path).status_code == 200


def test_an_expired_key_is_401(keyed: Service) -> None:
    keyed.headers = bearer(keyed, "read", expires=datetime.now(UTC) - timedelta(seconds=1))
    assert keyed.get("/features").status_code == 401


def test_each_scope_opens_its_routes_only(keyed: Service) -> None:
    job = keyed.accepted()
    asks = {
        "submit": [("POST", "/features"), ("DELETE", f"/features/{job['id']}")],
        "read": [("GET", "/features"), ("GET", "/models")],
        "admin": [("GET", "/metrics")],
    }
    for scope in asks:
        headers = bearer(keyed, scope)
        for needed, requests in asks.items():
            for method, path in requests:
                status = keyed.http.request(method, path, headers=headers).status_code
                assert (status == 403) is (needed != scope), (scope, method, path, status)


def test_a_missing_scope_is_named(keyed: Service) -> None:
    answer = keyed.http.get("/metrics", headers=bearer(keyed, "read"))
    assert (answer.status_code, answer.json()["scopes"]) == (403, ["admin"])


def test_other_owners_see_nothing_not_even_that_it_exists(keyed: Service) -> None:
    job = keyed.accepted(case_id="mine")
    keyed.succeed(job["id"])
    other = bearer(keyed, "submit", "read")
    unknown = keyed.http.get("/features/" + "0" * 32, headers=other)
    for path in ("", "/preview.png"):
        answer = keyed.http.get(f"/features/{job['id']}{path}", headers=other)
        assert (answer.status_code, answer.json()) == (404, unknown.json())
    assert keyed.http.delete(f"/features/{job['id']}", headers=other).status_code == 404
    assert keyed.http.get("/features", headers=other).json()["items"] == []
    assert keyed.get(f"/features/{job['id']}").json()["case_id"] == "mine"


def test_another_owners_idempotency_key_is_another_key(keyed: Service) -> None:
    first = keyed.submit(headers={"Idempotency-Key": "k"}).json()
    keyed.headers = bearer(keyed, "submit", "read")
    assert keyed.submit(headers={"Idempotency-Key": "k"}).json()["id"] != first["id"]


def test_an_upload_without_a_key_is_refused_before_it_is_read(keyed: Service) -> None:
    keyed.headers = {}
    assert keyed.submit(image=b"x" * 3_000_000).status_code == 401
    assert not keyed.files()


def test_a_revoked_key_is_refused_after_five_seconds_at_the_latest(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.upgrade()
    now = time.monotonic()
    ring = KeyRing(ledger, clock=lambda: now)
    key, secret = ledger.create_key("test", ["read"], None)
    assert ring.find(secret) == key
    ledger.revoke_key(key.id)
    assert ring.find(secret) is not None
    now += REMEMBER_SECONDS
    assert ring.find(secret) is None
    assert REMEMBER_SECONDS == 5
    ledger.dispose()
