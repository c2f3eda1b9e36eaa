"""How hard properties are tested, in every package alike: `--hypothesis-profile=thorough` for twenty times as many."""

from hypothesis import HealthCheck, settings

settings.register_profile("quick", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")
