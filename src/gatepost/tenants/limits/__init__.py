"""Limits: how much a key, a tenant, a sender's domain may send, counted exactly by many processes at once."""

from gatepost.tenants.limits.counters import Kind, Shown
from gatepost.tenants.limits.limits import MICROS, Limits, Reservation

__all__ = ["MICROS", "Kind", "Limits", "Reservation", "Shown"]
