"""The openspf suites of RFC 4408 and RFC 7208: 394 cases that nobody here wrote."""

import pytest

from tests.watch.spf_suites import SUITES, cases, evaluate

pytestmark = pytest.mark.skipif(not SUITES.exists(), reason="the shared corpora are not beside this checkout")


@pytest.mark.parametrize(("file", "least"), [("rfc7208-tests.yml", 203), ("rfc4408-tests.yml", 191)])
def test_the_openspf_suites_pass(file: str, least: int) -> None:
    """Every case has the suite's result, and none asks more than 200 questions (THREATS 55)."""
    tried = list(cases(file))
    assert len(tried) == least
    wrong = [(case.name, str(evaluate(case)), case.allowed) for case in tried if evaluate(case).result.value not in case.allowed]
    assert wrong == []
