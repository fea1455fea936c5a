"""What every test may ask for."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.stack"]

# A busy machine draws slowly; that says nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
