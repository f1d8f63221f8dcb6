"""What the outbox owes to: one protocol, and a module or folder a kind of sink."""
