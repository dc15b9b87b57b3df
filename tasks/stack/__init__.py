"""The servers: the embedded stack, the compose stack as commands see it, and what they share."""
