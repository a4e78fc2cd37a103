"""The SMTP submission door: asyncio glue around wire.smtp_server."""
