"""
Which URLs a webhook may have, as far as that can be seen without looking anything up.

Arrives: a URL and the networks that are allowed. Leaves: what is wrong with it.
Not here: where a name leads to, which is judged at each connection (webhooks.sending).
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from gatepost.policy.public_addresses import is_in, is_public


def check_target(url: str, networks: Sequence[str]) -> str | None:
    """
    Say what is wrong with the URL of a webhook; None for nothing.

    Args:
        networks: `webhooks.allow_networks`.
    """
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname or "", parsed.port
    except ValueError:
        return "this is no URL"
    if not (url.isascii() and url.isprintable()) or " " in url or not host:
        return "this is no URL: give https://host/path, in ASCII"
    if parsed.scheme != "https" and not (parsed.scheme == "http" and networks):
        return "give an https:// URL; http:// is taken only where webhooks.allow_networks has the target"
    if parsed.username is not None or parsed.password is not None or parsed.fragment:
        return "a URL with a user, a password or a fragment is not taken; use headers"
    if port == 0:
        return "the port is not valid"
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        return None
    allowed = [ipaddress.ip_network(text) for text in networks]
    if is_in(address, allowed) or (parsed.scheme == "https" and is_public(address)):
        return None
    return "this address is not one that webhooks may lead to"
