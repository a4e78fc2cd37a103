"""Mailboxes over IMAP: abuse mailboxes and placement tests, against a real Dovecot and a hostile server."""
