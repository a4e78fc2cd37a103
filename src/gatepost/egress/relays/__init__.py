"""RELAYS: providers that take mail over their HTTP APIs, one file each; target reads their URLs, courier carries."""
