"""SMTP transcripts, played against the server machine; a bug report becomes one more file."""

from pathlib import Path

import pytest
from tests.dialogs.server_player import replay

TRANSCRIPTS = sorted(Path(__file__).parent.glob("server-*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_server_says_what_the_transcript_says(path: Path) -> None:
    """Every reply and event of the transcript happens, in order, and no other."""
    text = path.read_text("utf-8")
    assert "RFC" in text.splitlines()[0] or "THREATS" in text.splitlines()[0]
    expected, happened = replay(text)
    assert happened == expected
