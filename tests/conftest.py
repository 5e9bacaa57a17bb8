"""Random cases: the same in every run of the suite; other ones each time with `HYPOTHESIS_PROFILE=explore`."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
