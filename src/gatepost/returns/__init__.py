"""
What comes back: taken in (listening), kept durably (store.inbound), read (letters) and acted on (loop, then `reported`).

Nothing here ever answers by mail, so that no report leads to another (RFC 3834 §2, RFC 5321 §6.1).
"""
