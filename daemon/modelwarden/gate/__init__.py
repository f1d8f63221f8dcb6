"""The gate: from the bytes of a summary to one assessment a model. Pure: no I/O, no clock."""
