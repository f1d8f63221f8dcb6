"""When: start, the wake-or-timeout loop, signals, the staged stop, and what surrounds them."""
