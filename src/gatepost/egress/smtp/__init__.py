"""The SMTP courier: plan (where to), session (one dialogue), pool (connections kept and shared)."""
