"""Tell systemd how the service is (sd_notify(3)); without systemd nothing happens."""

import os
import socket

_PATIENCE_S = 1.0


def notify(state: str) -> None:
    """Send a state such as `READY=1`; never fails, and never waits long: a beat is not worth a wait, since another one follows."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(0 if state == "WATCHDOG=1" else _PATIENCE_S)
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError:
        pass


def watchdog_s() -> float | None:
    """Return how often systemd wants to hear `WATCHDOG=1`, halved to be early; None when it does not."""
    text = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 2_000_000
