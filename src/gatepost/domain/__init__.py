"""The nouns: frozen values, enums and unions that every other package speaks in. No I/O, no clock, no database."""
