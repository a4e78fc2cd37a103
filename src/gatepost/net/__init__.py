"""SEAMS to the network: DNS, dialling, TLS; each a protocol with one real and one fake implementation."""
