"""A provider on loopback: takes requests as they come, answers by script, and shows what it got."""

import asyncio
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

BREAK = "break"
"""Close the connection when the request has arrived."""
SILENCE = "silence"


@dataclass(slots=True)
class Got:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Says:
    """One answer; a body that is no text is written as JSON."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


class Peer:
    """The server; its last answer is repeated."""

    def __init__(self, *answers: Says | str) -> None:
        self.answers = list(answers)
        self.got: list[Got] = []
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.got.append(Got(method, path, headers, body))
        answer = self.answers[min(len(self.got), len(self.answers)) - 1]
        if answer == BREAK:
            return False
        if isinstance(answer, str):
            await reader.read()
            return False
        content = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        lines = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {len(content)}", *(f"{k}: {v}" for k, v in answer.headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()
        return True
