"""Delivering what the outbox owes: the one part that knows the network. A process of its own, disposable."""
