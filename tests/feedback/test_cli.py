"""`gatepost feedback classify`, as other tools call it."""

import json
import subprocess
import sys
from pathlib import Path

LETTERS = Path(__file__).parent / "letters"


def classify(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gatepost", "feedback", "classify", *arguments], input=stdin, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_one_object_a_line_is_printed(tmp_path: Path) -> None:
    """Exactly the keys that are promised, one line for each file, whatever the file holds."""
    noise = tmp_path / "noise.eml"
    noise.write_bytes(bytes(range(256)) * 50)
    code, out, _ = classify("--json", str(LETTERS / "exim-two.eml"), str(noise))
    first, second = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert first == {
        "file": str(LETTERS / "exim-two.eml"),
        "kind": "bounce",
        "recipients": [
            {
                "address": "ann@example.net",
                "category": "spam_content",
                "severity": "block",
                "smtp_code": 554,
                "enhanced_code": "5.7.1",
                "rule": first["recipients"][0]["rule"],
            },
            {
                "address": "bob@example.org",
                "category": "expired",
                "severity": "soft",
                "smtp_code": None,
                "enhanced_code": None,
                "rule": "words.expired-surely",
            },
        ],
    }
    assert second == {"file": str(noise), "kind": "other", "recipients": []}


def test_a_file_that_cannot_be_read_is_the_only_failure(tmp_path: Path) -> None:
    """It is named, the others are still answered, and the exit code says so."""
    code, out, error = classify("--json", str(tmp_path / "gone.eml"), str(LETTERS / "person.eml"))
    assert (code, [json.loads(line)["kind"] for line in out.splitlines()]) == (1, ["other", "other"])
    assert "gone.eml" in error


def test_people_get_a_table_and_operators_their_rules(tmp_path: Path) -> None:
    """Without --json a table; --rules takes an operator's file; a broken one is refused before anything is read."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nid = "house.full"\ncategory = "rate_limited"\nwords = ["mailbox full"]\n')
    code, out, _ = classify("--rules", str(rules), "-", stdin=(LETTERS / "yahoo-text.eml").read_bytes())
    assert (code, "house.full" in out, "rate_limited" in out, out.splitlines()[0].split()[:3]) == (
        0,
        True,
        True,
        ["file", "kind", "recipient"],
    )
    rules.write_text("[[rule]]")
    assert classify("--rules", str(rules), "-")[0] == 2


def test_the_command_stays_small() -> None:
    """It loads no database, no web server and no table printer: it is called once for each mail."""
    probe = "import sys; sys.argv=['gatepost','feedback','classify','-','--json']; from gatepost.cli import main\ntry: main()\nexcept SystemExit: pass\nheavy=[m for m in ('sqlalchemy','aiohttp','litestar','rich','gatepost.store','email.parser') if m in sys.modules]\nprint(heavy, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], input=b"x", capture_output=True, check=False)
    assert done.stderr.decode().strip().splitlines()[-1] == "[]"
