"""What needs no key: health, metrics for this machine, the API's description."""
