"""Kill it, freeze it, starve it: no accepted message is lost."""
