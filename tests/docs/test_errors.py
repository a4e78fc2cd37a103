"""The catalogue of errors is complete: in the documentation, in the code, and in what each endpoint says of itself."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepost.domain.errors import CATALOGUE
from gatepost.http.app import endpoints
from gatepost.observe.maillog import SECURITY_EVENTS
from tests.docs.test_reference import ROOT, load_generator

SOURCE = sorted((ROOT / "src/gatepost").rglob("*.py"))
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCE:
        yield path, ast.parse(path.read_text("utf-8"))


def texts(node: ast.expr | None) -> list[str]:
    """The texts that an expression may be."""
    match node:
        case ast.Constant(value=str(value)):
            return [value]
        case ast.IfExp():
            return texts(node.body) + texts(node.orelse)
        case ast.BoolOp():
            return [text for one in node.values for text in texts(one)]
        case _:
            return []


def is_sentence(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.IfExp) or any(" " in text for text in texts(node))


def said_codes(*places: str) -> set[str]:
    """Every text in some parts of the code that stands where a code stands: before its sentence."""
    found = set()
    for path, tree in trees():
        if not str(path.relative_to(ROOT / "src/gatepost")).startswith(places):
            continue
        for node in ast.walk(tree):
            items = node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
            for code, sentence in zip(items, items[1:], strict=False):
                if is_sentence(sentence):
                    found |= {text for text in texts(code) if SNAKE.fullmatch(text) and "_" in text}
    return found


def calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
                if name in names:
                    yield path, node


def argument(call: ast.Call, n: int, name: str) -> ast.expr | None:
    return call.args[n] if len(call.args) > n else next((one.value for one in call.keywords if one.arg == name), None)


def test_every_refusal_in_the_code_has_a_code_of_the_catalogue():
    """A code that nobody documented cannot be answered."""
    raised = {text for _, call in calls("Refused", "RefusedPrincipal") for text in texts(argument(call, 0, "code"))}
    assert raised
    assert sorted(raised - CATALOGUE.keys()) == []


def test_no_code_of_the_catalogue_is_left_over():
    """Each can happen: it stands in the code somewhere else than in the catalogue."""
    code = "\n".join(path.read_text("utf-8") for path in SOURCE if path.name != "errors.py" or path.parent.name != "domain")
    assert [name for name in CATALOGUE if f'"{name}"' not in code] == []


def test_every_code_is_documented_with_an_example_of_both_doors():
    """HTTP status, SMTP reply, meaning, what to do, a problem and a reply that are what the doors write."""
    generator = load_generator()
    page = generator.errors_page()
    for name, kind in CATALOGUE.items():
        section = page.split(f"\n### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
        for needed in (str(kind.status), kind.smtp, kind.title, kind.advice, generator.EXAMPLES[name][0]):
            assert needed in section, (name, needed)
        problem = json.loads(section.split("```json\n")[1].split("```")[0])
        assert (problem["code"], problem["status"], problem["title"]) == (name, kind.status, kind.title)
        reply = section.split("```smtp\n")[1].split("```")[0]
        assert reply.startswith(kind.smtp.replace(" ", f"{reply[3]}")), reply
    assert generator.EXAMPLES.keys() == CATALOGUE.keys()


def test_every_fault_is_documented():
    """Codes inside `errors`, too: those that stand in the code are those that stand in the documentation."""
    direct = {text for _, call in calls("Fault", "_each") for text in texts(argument(call, 1, "code"))}
    faults = load_generator().FAULTS
    assert sorted(direct - faults.keys()) == []
    code = "\n".join(path.read_text("utf-8") for path in SOURCE)
    assert [name for name in faults if f'"{name}"' not in code] == []


def test_codes_that_rules_hand_on_are_documented():
    """A rule about content gives a code and a sentence; no such pair is unknown to the documentation."""
    known = load_generator().FAULTS.keys() | CATALOGUE.keys()
    assert sorted(said_codes("screening", "mime", "policy/values", "policy/attachments", "policy/links", "policy/lookalike") - known) == []


def test_every_code_that_an_endpoint_names_is_in_the_catalogue():
    """What `/openapi.json` says of an endpoint's errors is in the catalogue."""
    assert [(one.name, code) for one in endpoints() for code in one.codes if code not in CATALOGUE] == []


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda one: one.name)
def test_an_endpoint_names_the_codes_that_its_kind_always_has(endpoint):
    """With a body it can be wrong, unreadable, too large or of another type; with an id in its path it may not be there."""
    if endpoint.body is not None and endpoint.body is not bytes and not endpoint.is_public:
        assert {"validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type"} <= set(endpoint.codes)
    if any(one.place == "path" for one in endpoint.parameters) and not endpoint.is_public:
        assert "not_found" in endpoint.codes
    if any(one.place == "query" for one in endpoint.parameters) and not endpoint.is_public:
        assert "validation_failed" in endpoint.codes


def test_security_events_are_one_vocabulary():
    """Each `maillog.security` call names one of the documented events, and each of them can happen."""
    code = "\n".join(path.read_text("utf-8") for path in SOURCE if path.name != "maillog.py")
    said = {text for _, call in calls("security") for text in texts(argument(call, 0, "what"))}
    assert sorted(said - SECURITY_EVENTS.keys()) == []
    assert [name for name in SECURITY_EVENTS if f'"{name}"' not in code] == []
    page = load_generator().errors_page()
    assert [name for name in SECURITY_EVENTS if f"`{name}`" not in page] == []
