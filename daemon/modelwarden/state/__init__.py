"""This host's own memory: one SQLite file with the ledger, the catalog and the outbox."""
