"""Mail that comes back, as hosts write it."""

CRLF = "\r\n"


def bounce(to, recipient, *, status="5.1.1", action="failed", text="550 5.1.1 no such user", returned="") -> bytes:
    """A delivery status notification (RFC 3464)."""
    return f"""Return-Path: <>
From: Mail Delivery System <MAILER-DAEMON@mx.far.example>
To: {to}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

This is the mail system. Your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.example

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {text}

--b
Content-Type: text/rfc822-headers

From: shop@acme.example
{returned}Subject: Hi

--b--
""".replace("\n", CRLF).encode()


def complaint(to, return_path, kind="abuse", recipient="user0@example.net") -> bytes:
    """A complaint (RFC 5965) with the mail that it is about."""
    return f"""From: fbl@provider.example
To: {to}
Subject: FW: Hi
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Provider/1.0
Version: 1
Original-Rcpt-To: {recipient}

--b
Content-Type: message/rfc822

Return-Path: <{return_path}>
From: shop@acme.example
To: {recipient}
Subject: Hi

Hello

--b--
""".replace("\n", CRLF).encode()


VACATION = b"""From: Ann <ann@far.example>\r
To: b@bounces.example\r
Subject: Out of office: Hi\r
Auto-Submitted: auto-replied\r
\r
I am away until Monday.\r
"""
