"""
Upkeep: what has to be looked after beside the mail.

`policy_shelf` keeps MTA-STS policies over restarts and fetches them again in time; `tls_counts` and `tls_reports` keep what
was counted of TLS sessions and send the daily reports on it.
"""
