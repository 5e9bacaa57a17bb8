"""The OpenAPI document: valid, complete, and true."""

import re
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from service.api.problems import list_problem_types
from service.api.schemas import JobDocument
from service.errors import CaseError, RequestError
from tests.serving import Service

# Every route of the contract and every status it may answer with.
ROUTES = {
    ("post", "/features"): "200 202 400 401 403 408 413 415 422 429 500 503 507",
    ("get", "/features"): "200 401 403 422 500 503",
    ("get", "/features/{job_id}"): "200 304 401 403 404 406 409 500 503",
    ("delete", "/features/{job_id}"): "204 401 403 404 500 503",
    ("get", "/features/{job_id}/events"): "200 204 401 403 404 406 429 500 503",
    ("get", "/features/{job_id}/preview.png"): "200 401 403 404 409 500 503",
    ("post", "/cohorts"): "201 401 403 408 413 415 422 500 503",
    ("get", "/cohorts"): "200 401 403 422 500 503",
    ("get", "/cohorts/{cohort_id}"): "200 401 403 404 500 503",
    ("delete", "/cohorts/{cohort_id}"): "204 401 403 404 500 503",
    ("post", "/cohorts/{cohort_id}/cancel"): "200 401 403 404 500 503",
    ("get", "/cohorts/{cohort_id}/items"): "200 401 403 404 422 500 503",
    ("get", "/cohorts/{cohort_id}/items/{item}"): "200 401 403 404 422 500 503",
    ("post", "/cohorts/{cohort_id}/items/{item}"): "202 400 401 403 404 408 413 415 422 429 500 503 507",
    ("get", "/cohorts/{cohort_id}/results"): "200 401 403 404 406 500 503",
    ("get", "/models"): "200 401 403 500 503",
    ("get", "/models/{name}"): "200 401 403 404 500 503",
    ("get", "/models/{name}/card"): "200 401 403 404 500 503",
    ("get", "/livez"): "200 500",
    ("get", "/readyz"): "200 500 503",
    ("get", "/metrics"): "200 401 403 500 503",
}
REQUEST_PROBLEMS = {kind.slug for kind in RequestError.__subclasses__()} | {RequestError.slug}


@pytest.fixture(scope="module")
def document(shared: Service) -> dict[str, Any]:
    found: dict[str, Any] = shared.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): each for path, item in document["paths"].items() for method, each in item.items()}


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names == set(document["components"]["schemas"])


def test_every_route_and_status_is_documented(document: dict[str, Any]) -> None:
    found = {key: " ".join(sorted(each["responses"])) for key, each in operations(document).items()}
    assert found == ROUTES


def test_every_error_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for key, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            assert answer["description"], (key, status)
            if int(status) >= 400 and key[1] != "/readyz":
                assert list(answer["content"]) == ["application/problem+json"], (key, status)
                assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")


def test_every_job_answer_has_a_schema_and_examples_that_fit_it(document: dict[str, Any]) -> None:
    found = 0
    for operation in operations(document).values():
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                assert content["schema"]["$ref"].endswith("/JobDocument")
                JobDocument.model_validate(example["value"])
                found += 1
    assert found == 6


def test_every_guarded_route_names_its_scope(document: dict[str, Any]) -> None:
    scopes = {key: each.get("security") for key, each in operations(document).items()}
    assert scopes[("post", "/features")] == [{"ApiKey": ["submit"]}]
    assert scopes[("get", "/metrics")] == [{"ApiKey": ["admin"]}]
    assert [key[1] for key, scope in scopes.items() if not scope] == ["/livez", "/readyz"]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_the_form_is_documented_field_by_field(document: dict[str, Any]) -> None:
    body = document["paths"]["/features"]["post"]["requestBody"]
    form = body["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {
        "image",
        "mask",
        "model",
        "roi",
        "radiomics",
        "case_id",
        "resample_mask",
        "webhook",
        "radiomics_axes",
        "resample_images",
        "reference",
        "suv",
        "image_series",
        "mask_series",
    }
    assert all(field["description"] for field in form["properties"].values())
    assert form["anyOf"] == [{"required": ["mask"]}, {"required": ["mask_series"]}]


def test_every_route_parameter_and_field_is_described(document: dict[str, Any]) -> None:
    for key, operation in operations(document).items():
        assert operation["description"], key
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "path" or parameter.get("description"), (key, parameter["name"])


def test_examples_of_problems_are_of_documented_types(document: dict[str, Any]) -> None:
    used = {
        example["value"]["type"].removeprefix("/problems/")
        for operation in operations(document).values()
        for answer in operation["responses"].values()
        for example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).values()
    }
    # A wrong method belongs to no route; everything else that a request can meet belongs to one.
    assert used == REQUEST_PROBLEMS - {"method-not-allowed"}


def test_every_problem_type_has_a_page(shared: Service) -> None:
    index = shared.get("/problems").text
    types = list_problem_types()
    assert {kind.slug for kind in CaseError.__subclasses__()} | REQUEST_PROBLEMS <= set(types)
    for slug, kind in types.items():
        page = shared.get(kind.type)
        assert page.status_code == 200
        assert kind.title in page.text
        assert all(meaning and len(meaning) > 20 for meaning in kind.meanings), slug
        assert f"problems/{slug}" in index


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css", "/problems"])
def test_the_documentation_loads_nothing_from_another_host(shared: Service, path: str) -> None:
    answer = shared.get(path)
    assert answer.status_code == 200
    assert not re.findall(r"""(?:src|href|url)\s*[=:(]\s*["']?(?:https?:)?//""", answer.text)
    if path == "/docs":
        for source in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            assert shared.get(f"/{source}").status_code == 200
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
