"""The SMTP door with clients that nobody here wrote: smtplib, aiosmtplib, swaks, Postfix's smtp-source."""

import asyncio
import shutil
import smtplib
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest
import uvloop
from tests.doors.smtp_rig import SECRET, certificate, running_door, trusting

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@acme.example", "ann@example.net", "Hello"
    message.set_content("Hi\n.\n..\nbye\n")
    return message


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode(errors="replace")


def _send_with_smtplib(port: int, implicit_tls: bool, mechanism: str) -> None:
    client: smtplib.SMTP
    if implicit_tls:
        client = smtplib.SMTP_SSL("127.0.0.1", port, timeout=10, context=trusting())
    else:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.starttls(context=trusting())
    with client:
        client.ehlo()
        client.user, client.password = "any", SECRET
        client.auth(mechanism, client.auth_plain if mechanism == "PLAIN" else client.auth_login)
        client.send_message(_message(), mail_options=["BODY=8BITMIME"], rcpt_options=["NOTIFY=FAILURE"])
        client.send_message(_message())


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("implicit_tls", [False, True])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_smtplib_sends_over_tls(tmp_path: Path, new_loop: object, implicit_tls: bool, mechanism: str) -> None:
    """Python's own client delivers two messages with STARTTLS or TLS, PLAIN or LOGIN, on either event loop, dots intact."""

    async def run() -> None:
        async with running_door(context=certificate(tmp_path), implicit_tls=implicit_tls) as rig:
            await asyncio.to_thread(_send_with_smtplib, rig.port, implicit_tls, mechanism)
            assert len(rig.acceptor.taken) == 2
            caller, submission = rig.acceptor.taken[0]
            assert caller.principal.id == "key_1"
            assert str(submission.envelope_from) == "shop@acme.example"
            assert [str(recipient.address) for recipient in submission.recipients] == ["ann@example.net"]
            assert submission.recipients[0].notify == "FAILURE"
            assert submission.content.endswith(b"\r\n\r\nHi\r\n.\r\n..\r\nbye\r\n")

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(run())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_aiosmtplib_sends_many_messages_at_once(tmp_path: Path, new_loop: object) -> None:
    """Twenty STARTTLS connections at once deliver one message each: no handshake stalls, no first command is lost."""

    async def run() -> None:
        async with running_door(context=certificate(tmp_path)) as rig:
            sends = [
                aiosmtplib.send(
                    _message(), hostname="127.0.0.1", port=rig.port, start_tls=True, tls_context=trusting(), username="u", password=SECRET
                )
                for _ in range(20)
            ]
            await asyncio.wait_for(asyncio.gather(*sends), 30)
            assert len(rig.acceptor.taken) == 20

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(run())


@pytest.mark.parametrize("options", [[], ["--pipeline"]])
def test_swaks_sends_with_and_without_pipelining(options: list[str]) -> None:
    """swaks authenticates on loopback, delivers to two recipients, pipelining or not, and sees the message's id."""

    async def run() -> None:
        async with running_door() as rig:
            code, output = await _run(
                *("swaks", "--server", "127.0.0.1", "--port", str(rig.port), "--ehlo", "client.example"),
                *("--from", "shop@acme.example", "--to", "ann@example.net,bob@example.net"),
                *("--auth", "PLAIN", "--auth-user", "u", "--auth-password", SECRET, *options),
            )
            assert code == 0, output
            assert "250 2.0.0 Ok: queued as msg_1" in output
            assert len(rig.acceptor.taken[0][1].recipients) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    "recipient",
    ["a@victim.example", "a%victim.example@acme.example", "@ours.example:a@victim.example", '"a@b"@acme.example'],
)
@pytest.mark.parametrize("sender", ["shop@acme.example", "<>"])
def test_nobody_relays_without_a_key(recipient: str, sender: str) -> None:
    """THREATS 6: swaks without AUTH is refused with 530, whatever address trick it plays."""

    async def run() -> None:
        async with running_door() as rig:
            code, output = await _run(
                *("swaks", "--server", "127.0.0.1", "--port", str(rig.port), "--ehlo", "x.example", "--from", sender, "--to", recipient)
            )
            assert code != 0
            assert " 530 5.7.0 " in output
            assert rig.acceptor.taken == []

    asyncio.run(run())


SOURCE = shutil.which("smtp-source") or shutil.which("smtp-source", path="/usr/sbin")


@pytest.mark.parametrize("new_loop", LOOPS)
def test_smtp_source_sends_from_a_trusted_network(new_loop: object) -> None:
    """Postfix's load generator, which cannot authenticate, delivers 200 messages of 5 KB from a trusted network."""

    async def run() -> None:
        async with running_door(trusts=True) as rig:
            code, output = await _run(
                *(str(SOURCE), "-s", "10", "-m", "200", "-l", "5120", "-f", "bench@acme.example", "-t", "a@example.net"),
                f"inet:127.0.0.1:{rig.port}",
            )
            assert (code, output) == (0, "")
            assert len(rig.acceptor.taken) == 200
            assert all(5000 < len(submission.content) < 5400 for _, submission in rig.acceptor.taken)

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(run())
