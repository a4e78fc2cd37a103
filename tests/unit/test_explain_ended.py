"""How a recipient ended, in one sentence."""

from types import SimpleNamespace

from gatepost.explain.ended import how

NOW = 1_800_000_000_000
MESSAGE = SimpleNamespace(scheduled_at=None, created_at=NOW - 2_000)


def row(**more):
    found = {
        "status": "sent", "site": "relay:main", "final_at": NOW, "updated_at": NOW, "last_host": "127.0.0.1", "last_reply": "250 ok",
        "attempts": 1, "reason": None,
    }  # fmt: skip
    return SimpleNamespace(**{**found, **more})


def test_a_relay_has_the_name_that_the_settings_give_it():
    """Not the host that its API is asked at."""
    assert how(MESSAGE, row()) == "Sent after 2 s: the relay main took it with '250 ok'."
    assert "127.0.0.1 took it" in how(MESSAGE, row(status="delivered", site="example.net"))
