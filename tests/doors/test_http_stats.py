"""Numbers over HTTP: what is counted is told, to whom it belongs, as JSON and CSV."""

import csv
import io

import pytest
from tests.doors.http_rig import DOMAIN, message

SPAN = {"from": "2020-01-01", "to": "2029-01-01"}


def total(client, **query):
    answer = client.get("/v1/stats", params=SPAN | query)
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]


def test_accepted_mail_is_counted_at_once(client):
    """The sum knows the message as soon as its answer is there; all metrics are told, those of nothing as null."""
    before = total(client)
    assert client.post("/v1/messages", json=message(to=["a@far.example", "b@far.example"], tags=["counted"])).status_code == 202
    after = total(client)
    assert (after["messages"] - before["messages"], after["accepted"] - before["accepted"]) == (1, 2)
    assert total(client, tag="counted")["accepted"] == 2
    assert total(client, tag="counted", stream="codes")["accepted"] == 0
    assert total(client, tag="counted")["delivery_rate"] is None
    assert total(client, tag="counted")["time_to_deliver_ms"] == {"p50": None, "p90": None, "p95": None, "p99": None}


def test_numbers_are_divided_by_what_is_asked_for(client):
    """By domain, stream and day in a zone; metrics only those that were named."""
    client.post("/v1/messages", json=message(stream="bulk"))
    answer = client.get("/v1/stats", params=SPAN | {"group_by": "domain,stream", "metrics": "accepted,delivery_rate"}).json()
    assert answer["group_by"] == ["domain", "stream"]
    rows = {(row["group"]["domain"], row["group"]["stream"]): row["metrics"] for row in answer["data"]}
    assert rows[DOMAIN, "bulk"]["accepted"] >= 1
    assert set(rows[DOMAIN, "bulk"]) == {"accepted", "delivery_rate"}
    days = client.get("/v1/stats", params=SPAN | {"step": "month", "time_zone": "Asia/Kolkata"}).json()
    assert [row["from"][10:] for row in days["data"]] == ["T18:30:00.000Z"] * len(days["data"])
    assert sum(row["metrics"]["accepted"] for row in days["data"]) == days["total"]["accepted"] > 0


def test_csv_holds_the_same_rows_and_no_formulas(client):
    """A tag that a spreadsheet would compute is quoted (THREATS 58); the audit log tells of the export."""
    tag = '=cmd|"/c calc"!A1'
    assert client.post("/v1/messages", json=message(tags=[tag])).status_code == 202
    answer = client.get("/v1/stats", params=SPAN | {"group_by": "tag"}, headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert "'" + tag in [row["tag"] for row in rows]
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert any(one["action"] == "stats.exported" for one in client.get("/v1/audit").json()["data"])


def test_a_key_sees_the_numbers_of_its_streams_and_domains_only(client, rig):
    """Restricted to codes, it does not learn how much bulk mail there is, however it asks."""
    client.post("/v1/messages", json=message(stream="bulk", tags=["secret-campaign"]))
    client.post("/v1/messages", json=message(stream="codes"))
    made = client.post("/v1/keys", json={"name": "narrow", "mode": "live", "scopes": ["stats:read"], "streams": ["codes"]}).json()
    with rig.client(made["key"]) as narrow:
        everything = total(narrow)
        assert 0 < everything["accepted"] == total(narrow, stream="codes")["accepted"] < total(client)["accepted"]
        assert total(narrow, stream="bulk")["accepted"] == 0
        assert "secret" not in narrow.get("/v1/stats", params=SPAN | {"group_by": "tag"}).text
        assert [row["group"]["stream"] for row in narrow.get("/v1/stats", params=SPAN | {"group_by": "stream"}).json()["data"]] == ["codes"]
    made = client.post("/v1/keys", json={"name": "other", "mode": "live", "scopes": ["stats:read"], "domains": ["none.example"]})
    if made.status_code == 201:
        with rig.client(made.json()["key"]) as other:
            assert total(other)["accepted"] == 0


def test_only_operators_see_every_tenant(client):
    """A tenant's own key may not ask for all of them."""
    answer = client.get("/v1/stats", params=SPAN | {"tenant": "*"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert client.get("/v1/stats", params=SPAN | {"tenant": "ten_x"}).status_code == 422


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"from": "yesterday"}, "from"), ({"to": "2026-13-01"}, "to"), ({"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ({"group_by": "address"}, "group_by"), ({"step": "second"}, "step"), ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"), ({"metrics": "profit"}, "metrics"),
        ({"group_by": "domain,template"}, "group_by"), ({"template": "welcome"}, "template"), ({"mode": "dry"}, "mode"),
        ({"group_by": "tag,site"}, "group_by"), ({"tag": "a", "relay": "mx"}, "group_by"),
        ({"from": "2019-01-01", "to": "2026-01-01", "step": "5m"}, "step"), ({"from": "0001-01-01"}, "from"), ({"from": "2026-01-01T00:00"}, "from"),
        ({"from": "9999-12-01", "to": "9999-12-31", "step": "day", "time_zone": "Pacific/Kiritimati"}, "to"), ({"to": "\u0663"}, "to"),
        ({"adress": "x"}, "adress"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused_with_its_place(client, query, place):
    """Never an empty answer to a typo."""
    answer = client.get("/v1/stats", params=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == place
    if "template" in str(query):
        assert "no templates yet" in answer.text
