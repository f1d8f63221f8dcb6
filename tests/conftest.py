"""What holds for every test: Hypothesis without deadlines or a database in the checkout, and quiet library loggers."""

from hypothesis import HealthCheck, settings

settings.register_profile("modelwarden", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelwarden")
