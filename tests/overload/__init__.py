"""More than the gateway can take: who is refused, who is not, and how soon all is well again."""
