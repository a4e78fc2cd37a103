"""Alembic migrations: forward only, from every released schema."""
