"""The API's description: valid, complete, and true of what the door answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from gatepost.domain.errors import CATALOGUE
from gatepost.http import openapi
from gatepost.http.app import create_app, endpoints

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)


def test_the_document_is_valid_openapi(client):
    """What `/openapi.json` says passes the specification's own schema."""
    document = client.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_the_document_and_the_router_agree(client, rig):
    """Every route of the API is described with its methods, and nothing that is not there."""
    described = {
        (path, method.upper()) for path, operations in client.get("/openapi.json").json()["paths"].items() for method in operations
    }
    assert described == {(openapi.shown_path(one.path), one.method) for one in endpoints()}
    routed = {openapi.shown_path(route.path_format) for route in create_app(rig.deps).routes}
    described_paths = {path for path, _ in described}
    assert described_paths <= routed
    assert {path for path in routed if path.startswith("/v1")} <= described_paths


def test_every_described_code_is_in_the_catalogue():
    """No endpoint promises a code that does not exist."""
    assert {code for one in endpoints() for code in one.codes} <= set(CATALOGUE)


@pytest.mark.slow
def test_schemathesis_finds_no_500_and_no_undocumented_answer(rig, tmp_path):
    """Generated requests, good and bad: every answer has a documented status, type and shape."""
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{rig.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {rig.key}",
        "--checks",
        ",".join(CHECKS),
        "--phases",
        "coverage,fuzzing",
        "--max-examples",
        "5",
        "--seed",
        "1",
        "--no-shrink",
        "--workers",
        "1",  # CPython 3.11's parser counts its depth for all threads together, and hypothesis parses (gh-106905)
        "--no-color",
        "--exclude-path",
        "/docs/scalar.js",
        "--exclude-path",
        "/v1/events/stream",  # it has no end
        "--suppress-health-check",
        "all",
        "--warnings",
        "off",
        "--max-time",
        "35",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schemathesis_hooks.py")), "PYTHONUTF8": "1"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False, cwd=tmp_path, env={**os.environ, **hooks})
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "passed" in run.stdout


@pytest.mark.slow
def test_the_docs_page_shows_the_api_and_asks_only_this_door(rig):
    """In a real browser: the operations appear, and no request leaves for another host."""
    chromium = Path("/usr/bin/chromium")
    assert chromium.exists(), "the test needs Debian's chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        broken: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: broken.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(f"{rig.url}/docs")
        page.get_by_text("Send a message").first.wait_for(timeout=30_000)
        browser.close()
    assert len(asked) >= 3
    assert all(url.startswith((rig.url, "data:", "blob:")) for url in asked), asked
    assert broken == []
