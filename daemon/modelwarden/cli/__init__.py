"""The command line: what a person asks of the daemon and of an archive, and what scripts get back."""
