"""WHO: API keys, domains and their DKIM keys, suppressions."""
