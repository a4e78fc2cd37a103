"""An IMAP server that says what a test wants, line by line."""

import socket
import threading
from collections.abc import Callable
from typing import Self

Answer = bytes | Callable[[bytes], bytes | None]


class HostileServer:
    """
    Answers each command by the script; what the script does not name is well done.

    A script maps a command's word, such as `UID SEARCH`, to what comes before the tagged OK; a function gets the tag and may say all itself.
    """

    def __init__(self, script: dict[str, Answer], greeting: bytes = b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS] hello\r\n") -> None:
        self._script = script
        self._greeting = greeting
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.said: list[bytes] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        for one in self._open:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._sock.accept()
            except OSError:
                return
            self._open.append(peer)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        try:
            peer.sendall(self._greeting)
            with peer.makefile("rb") as lines:
                for line in lines:
                    self.said.append(line)
                    self._answer(peer, lines, line)
        except (OSError, ValueError):
            return

    def _answer(self, peer, lines, line: bytes) -> None:
        tag, _, rest = line.strip().partition(b" ")
        words = rest.decode("latin-1").upper().split()
        word = " ".join(words[:2]) if words[:1] == ["UID"] else words[0] if words else ""
        if word == "AUTHENTICATE":
            peer.sendall(b"+ \r\n")
            self.said.append(lines.readline())
        known = self._script.get(word)
        if callable(known):
            said = known(tag)
            while said is not None:
                peer.sendall(said)
                said = known(tag) if b"ENDLESS" in said or b"drip" in said else None
            return
        usual = {
            "CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS\r\n",
            "SELECT": b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n",
        }
        peer.sendall((known if known is not None else usual.get(word, b"")) + tag + b" OK done\r\n")
