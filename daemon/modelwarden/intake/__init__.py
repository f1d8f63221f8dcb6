"""Which files are there, and which are ready: hints, the scan as the truth, settling as the judgement."""
