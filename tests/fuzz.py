"""How much the property tests of parsers try: 200 examples each in `make test`, 10,000 in `make test-fuzz`."""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

#: For a test over hostile input: no example may take more than a second.
FUZZED = settings(
    max_examples=int(os.environ.get("SURD_FUZZ_EXAMPLES", "200")),
    deadline=timedelta(seconds=1),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
