"""Mail that nobody here wrote: reading it never fails, and honest mail is not taken for hostile."""

from collections import Counter
from pathlib import Path

import pytest

from gatepost.mime.files import files_of, html_of
from gatepost.policy import active, links
from gatepost.policy.attachments import File, endings, examine
from gatepost.settings import Limits, Screening

CORPORA = Path(__file__).parents[2] / "../shared/corpora"
pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the shared corpora are not beside this checkout")


def test_real_mail_passes_every_rule():
    """390 bounces, reports and signed mails with attachments: no finding but what the structure check refuses anyway."""
    blocked = endings(tuple(Screening().blocked_extensions))
    found: Counter[str] = Counter()
    mails = [*CORPORA.rglob("*.eml"), *(CORPORA / "dkim").glob("*.txt")]
    attachments = 0
    for mail in mails:
        content = mail.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        files = files_of(content, Limits())
        attachments += len(files.attached)
        found.update(fault.code for fault in files.faults)
        for one in files.attached:
            file = File(place="Content-Disposition", names=one.names, content_type=one.content_type, content=one.content)
            found.update(finding.fault.code for finding in examine(file, blocked))
        for html in html_of(content, Limits()):
            found.update(code for code, _ in links.troubles(html))
            found.update(["active_html"] if active.is_active(html) else [])
    assert len(mails) > 300
    assert attachments > 100
    assert dict(found) == {"mime_ambiguous": 5, "link_text_differs": 1}, "the one link is a click counter's"


RUNS_NOWHERE = {3, 7, 8, 9, 14, 15, 16, 17}
"""Percent-encoded, or pieces without a script."""


def test_strings_that_run_scripts_are_active():
    """Bleach's collection of cross-site scripting: all that any browser runs."""
    samples = {int(path.stem): path.read_text("utf-8").split("\n--\n")[0] for path in (CORPORA / "bleach-xss/data").glob("*.test")}
    assert len(samples) == 20
    assert {n for n, text in samples.items() if not active.is_active(text)} == RUNS_NOWHERE
