"""Suppression lists out of the gateway and in again: what comes back is what went, and no spreadsheet computes any of it."""

import csv
import io
import json
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.domain.stream import DEFAULTS
from gatepost.tenants import suppression_files as files
from tests.cli.test_commands import run, run_json
from tests.flow.serving import Serving, prepare


class Row:
    def __init__(self, **fields):
        self.__dict__.update(
            {"address": "a@x.example", "stream": "", "reason": "manual", "note": "", "created_at": 0, "expires_at": None} | fields
        )


@given(
    st.sampled_from(["=", "+", "-", "@", "\t", "x"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"]), max_size=30),
)
def test_no_cell_is_a_formula_and_nothing_is_lost(first, rest):
    """THREATS 58: `=cmd|…` as a note leaves as text, and comes back as it was."""
    note = first.strip() + rest
    text = files.heading(files.CSV) + files.written([Row(note=note, address="=1+1@x.example", expires_at=1_764_000_000_000)], files.CSV)
    (_, cells) = csv.reader(io.StringIO(text))
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in cells)
    read = files.read_list(text.encode(), files.CSV, DEFAULTS)
    assert [str(one.address) for one in read.suppressions] == ["=1+1@x.example"]
    if not note.startswith("'"):
        assert read.suppressions[0].note in {note, note.strip()}
    assert read.suppressions[0].expires_at == 1_764_000_000_000


def test_json_lines_come_back_as_they_went():
    """One object a line; nothing is quoted for spreadsheets there."""
    text = files.written([Row(note="=1+1", stream="bulk", reason="complaint"), Row(address="b@x.example")], files.JSON_LINES)
    read = files.read_list(text.encode(), files.JSON_LINES, DEFAULTS)
    assert [(str(one.address), one.stream, one.reason, one.note) for one in read.suppressions] == [
        ("a@x.example", "bulk", "complaint", "=1+1"), ("b@x.example", None, "manual", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("heading", "line", "reason"),
    [
        ("email,reason,created", "a@x.example,550 no such user,1764000000", "imported"),
        ("EmailAddress,SuppressionReason,Origin,CreatedAt", "a@x.example,HardBounce,Recipient,2026-01-01", "invalid_recipient"),
        ("Email,Type", "a@x.example,SpamComplaint", "complaint"),
        ("\ufeffRecipient;x,Address", "y,a@x.example", "imported"),
    ],
)
def test_other_systems_exports_are_understood(heading, line, reason):
    """By the names of columns, and what others call our reasons."""
    read = files.read_list(f"{heading}\n{line}\n".encode(), files.CSV, DEFAULTS)
    assert [(str(one.address), one.reason) for one in read.suppressions] == [("a@x.example", reason)]


@pytest.mark.parametrize("content", [b"", b"\n", b"name\nx\n", b"\xff\xfe", b"address\n" + b'"' * 9 + b"x" * 20_000, b"a,b\n1,2\n"])
def test_what_is_no_list_is_told_in_a_sentence(content):
    """Never a trace: a file without addresses is refused, a broken line named."""
    with pytest.raises(files.NoList):
        files.read_list(content, files.CSV, DEFAULTS)


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader(content):
    """Whatever the bytes: a list or a refusal."""
    for kind in (files.CSV, files.JSON_LINES):
        try:
            files.read_list(content, kind, DEFAULTS)
        except files.NoList as error:
            assert str(error)


def test_faults_are_named_by_line():
    """Line, column and reason; a hundred at most, and all are counted."""
    content = "address,stream\nno\nb@x.example,none\n" + "bad\n" * 300
    read = files.read_list(content.encode(), files.CSV, DEFAULTS)
    assert [one.pointer for one in read.faults[:2]] == ["/2/address", "/3/stream"]
    assert (len(read.faults), read.faulty, read.suppressions) == (100, 302, [])


def test_the_command_line_exports_and_imports(tmp_path):
    """Out as CSV, in again at another tenant; a faulty line refuses the file unless it is skipped."""
    data, out = tmp_path / "data", tmp_path / "out.csv"
    run(data, "suppression", "add", "Bob@Example.NET", "--note", "=1+1")
    run(data, "tenant", "create", "team")
    run(data, "suppression", "export", str(out))
    assert "'=1+1" in out.read_text()
    assert run_json(data, "suppression", "import", str(out), "--tenant", "team") == {"added": 1, "renewed": 0, "skipped": 0}
    assert run_json(data, "suppression", "list", "--tenant", "team")[0]["note"] == "=1+1"
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"address": "a@x.example"}\n{"address": "bob@example.net"}\nno\n')
    run(data, "suppression", "import", str(lines), code=1)
    assert len(run_json(data, "suppression", "list")) == 1
    assert run_json(data, "suppression", "import", str(lines), "--skip-invalid") == {"added": 1, "renewed": 1, "skipped": 1}


def test_the_api_exports_and_imports(tmp_path):
    """Both forms, with the audit log's word for each; a faulty line is 422 with its place and takes nothing."""
    data = tmp_path / "data"
    key = prepare(data)
    with Serving(data) as serving:

        def ask(method, path, body=None, kind="text/csv"):
            request = urllib.request.Request(f"http://{serving.listening['http']}{path}", method=method, data=body)
            request.add_header("Authorization", f"Bearer {key}")
            request.add_header("Content-Type", kind)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        many = "email\n" + "".join(f"user{n}@x.example\n" for n in range(1200))
        assert json.loads(ask("POST", "/v1/suppressions/import", many.encode())[1])["added"] == 1200
        status, told = ask("POST", "/v1/suppressions/import", b"email,stream\nno,none\n")
        assert (status, [one["pointer"] for one in json.loads(told)["errors"]]) == (422, ["/2/address", "/2/stream"])
        status, text = ask("GET", "/v1/suppressions/export")
        assert (status, len(text.splitlines())) == (200, 1201)
        status, lines = ask("GET", "/v1/suppressions/export?format=jsonl")
        assert {json.loads(line)["reason"] for line in lines.splitlines()} == {"imported"}
        again = ask("POST", "/v1/suppressions/import", lines.encode(), "application/jsonl")
        assert json.loads(again[1]) == {"object": "suppression_import", "added": 0, "renewed": 1200, "skipped": 0}
        assert ask("GET", "/v1/suppressions/export?format=xls")[0] == 422
        assert ask("POST", "/v1/suppressions/import", b"{}", "application/json")[0] == 415
        _, audit = serving.ask("GET", "/v1/audit", key)
        assert {"suppressions.added", "suppressions.exported"} <= {one["action"] for one in audit["data"]}
