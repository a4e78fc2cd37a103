"""
When does the certificate of somebody else's server end?

Arrives: an address and a name. Leaves: the end of its certificate, valid or not: who wants to warn in time asks before it is too late.
Nothing is sent but a greeting and STARTTLS.
Standards: RFC 3207 (STARTTLS), RFC 5280.
Not here: whether the certificate is to be trusted: each delivery sees to that.
Bugs: none known.
"""

import asyncio
import ssl
from typing import Final

from cryptography import x509

from gatepost.clock import Instant

_LONGEST_LINE: Final = 2_048
_MOST_LINES: Final = 100


async def certificate_end(address: str, port: int, name: str, *, is_smtp: bool, timeout_s: float) -> Instant:
    """
    Read when a server's certificate ends.

    Args:
        address: An IP address.
        name: Host name that is asked for (SNI).
        is_smtp: TLS begins with STARTTLS, not with the first byte.

    Raises:
        OSError: No connection, no TLS, no certificate that can be read; TimeoutError after `timeout_s`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is read, not trusted
    async with asyncio.timeout(timeout_s):
        if is_smtp:
            reader, writer = await asyncio.open_connection(address, port, limit=_LONGEST_LINE)
        else:
            reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        try:
            if is_smtp:
                await _start_tls(reader, writer, context, name)
            return _end_of(writer.get_extra_info("ssl_object"))
        finally:
            writer.transport.abort()


async def _start_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, name: str) -> None:
    await _reply(reader, "220")
    writer.write(b"EHLO localhost.localdomain\r\n")
    await _reply(reader, "250")
    writer.write(b"STARTTLS\r\n")
    await _reply(reader, "220")
    await writer.start_tls(context, server_hostname=name)


async def _reply(reader: asyncio.StreamReader, wanted: str) -> None:
    for _ in range(_MOST_LINES):
        try:
            line = (await reader.readuntil(b"\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionResetError("the server does not answer as SMTP does") from error
        if not line.startswith(wanted):
            raise ConnectionAbortedError(f"the server answered {line[:80].strip()!r} where {wanted} was expected")
        if line[3:4] != "-":
            return
    raise ConnectionAbortedError("the server's answer does not end")


def _end_of(found: ssl.SSLObject | None) -> Instant:
    data = None if found is None else found.getpeercert(binary_form=True)
    if not data:
        raise ConnectionAbortedError("the server showed no certificate")
    try:
        return int(x509.load_der_x509_certificate(data).not_valid_after_utc.timestamp() * 1000)
    except ValueError as error:
        raise ConnectionAbortedError(f"the server's certificate cannot be read: {error}") from error
