"""Formats: what trainers write by themselves, read as summaries. A format is data, and so is what it reads."""
