"""The pages: a door that shows people what became of their mail."""
