"""TLS on the way out: MTA-STS, DANE, messages that require TLS, and reports."""
