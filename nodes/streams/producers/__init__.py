"""How messages come in: over HTTP, from a queue, to our own queue's endpoint, by a WAMP procedure."""
