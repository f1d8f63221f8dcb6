"""The chat sink: a message that a person reads, through Apprise."""
