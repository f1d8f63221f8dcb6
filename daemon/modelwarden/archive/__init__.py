"""Runs on disk: the archive directory, its index and its reports. The archive is the truth."""
