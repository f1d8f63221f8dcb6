"""Which files are there, and which are ready: events as hints, the scan as the truth, settling as the judgement."""
