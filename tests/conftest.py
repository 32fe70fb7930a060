"""One profile for all property tests."""

import hypothesis

# Deadlines measure the machine's other work, not the code's: first calls compile shape checks.
hypothesis.settings.register_profile("mifo", deadline=None)
hypothesis.settings.load_profile("mifo")
