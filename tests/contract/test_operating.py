"""Models, health, metrics, headers and errors that are not a caller's fault."""

import json
from pathlib import Path

import pytest
import structlog

from service.api.schemas import ModelDetail, ModelDocument, Readiness
from tests.bundle_builder import write_bundle
from tests.serving import Service, make_settings, serving


def test_models_say_what_they_need_and_predict(shared: Service) -> None:
    first, second = (ModelDocument.model_validate(each) for each in shared.get("/models").json())
    assert (first.name, first.version, first.channels, first.demonstration) == ("small-ct", "1.0.0", ["ct"], True)
    assert second.channels == ["t1ce", "flair"]
    assert [(target.target, target.classes) for target in first.targets] == [("texture", ["smooth", "rough"])]
    assert len(first.sha256) == 64


def test_a_model_lists_its_features_in_order_and_shows_its_card(shared: Service) -> None:
    detail = ModelDetail.model_validate(shared.get("/models/small-ct").json())
    assert len(detail.feature_names) == detail.features
    assert detail.feature_names[-1] == "deep_0007"
    card = shared.get(detail.card)
    assert card.headers["Content-Type"].startswith("text/markdown")
    assert card.text == detail.card_text


def test_a_bundle_added_later_is_listed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models")
    with serving(make_settings(tmp_path / "home", tmp_path / "models")) as service:
        assert len(service.get("/models").json()) == 1
        write_bundle(tmp_path / "models", name="another")
        assert [model["name"] for model in service.get("/models").json()] == ["another", "small-ct"]


def test_a_damaged_bundle_is_500_and_named_in_the_log_alone(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models")
    with serving(make_settings(tmp_path / "home", tmp_path / "models")) as service:
        (tmp_path / "models/small-ct/manifest.json").write_text("{}")
        with structlog.testing.capture_logs() as lines:
            answer = service.get("/models")
        assert (answer.status_code, answer.json()["type"]) == (500, "/problems/bundle-damaged")
        assert str(tmp_path) not in answer.text
        assert "service-broken" in [line["event"] for line in lines]
        assert not service.get("/readyz").json()["checks"]["models"]["ok"]


def test_readiness_names_what_is_missing(service: Service) -> None:
    answer = service.get("/readyz")
    ready = Readiness.model_validate(answer.json())
    assert answer.status_code == 503
    assert {name for name, check in ready.checks.items() if not check.ok} == {"broker", "dispatcher", "workers"}


def test_readiness_shows_live_processes_and_the_device_in_use(service: Service) -> None:
    ledger = service.context.ledger
    ledger.beat("d-1", "dispatcher")
    ledger.beat("w-1", "worker")
    ledger.report_device("w-1", "CUDAExecutionProvider")
    checks = service.get("/readyz").json()["checks"]
    assert checks["dispatcher"] == {"ok": True, "detail": "1 alive"}
    assert checks["workers"] == {"ok": True, "detail": "1 alive on CUDAExecutionProvider"}
    ledger.leave("w-1")
    assert not service.get("/readyz").json()["checks"]["workers"]["ok"]


def test_metrics_count_requests_by_template_and_jobs_by_state(service: Service) -> None:
    job = service.accepted(image=b"12345", mask=b"67", case_id="planted-case")
    service.get(f"/features/{job['id']}")
    service.get("/planted/path?planted=query")
    text = service.get("/metrics").text
    assert 'radfuse_jobs{state="accepted"} 1.0' in text
    assert 'radfuse_http_requests_total{method="GET",route="/features/{job_id}",status="200"} 1.0' in text
    assert 'radfuse_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert "radfuse_upload_bytes_total 7.0" in text
    assert "planted" not in text
    assert job["id"] not in text


@pytest.mark.parametrize("path", ["/livez", "/features", "/docs", "/nothing", "/features/x", "/problems/not-found"])
def test_every_answer_carries_security_headers(shared: Service, path: str) -> None:
    headers = shared.get(path, Origin="https://evil.example").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers
    assert "Access-Control-Allow-Origin" not in headers


def test_an_unexpected_error_is_500_without_internals(service: Service, tmp_path: Path) -> None:
    job = service.accepted()
    service.succeed(job["id"])
    with service.context.ledger.write() as (connection, _):
        connection.exec_driver_sql("UPDATE results SET document = 'PLANTED'")
    with structlog.testing.capture_logs() as lines:
        answer = service.get(f"/features/{job['id']}")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "PLANTED" not in answer.text
    assert "JSON" not in answer.text
    assert "unexpected-error" in [line["event"] for line in lines]
    assert "PLANTED" not in json.dumps(lines, default=str)
