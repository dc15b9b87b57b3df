"""What anybody who reaches the filter could try, as requests, against a victim that is not ours.

Every attack that an engine would carry out is also sent to the bare engine, where it must do harm.
Otherwise its denial by the filter would prove nothing.

The filter is tried once with each attack: on its own if it denies the attack without asking the
engine (`denial`), and in front of an engine if not.
"""

from __future__ import annotations

from tests.docker.attacks_build import BUILD, CONTEXTS
from tests.docker.attacks_create import CREATE
from tests.docker.attacks_endpoints import ENDPOINTS
from tests.docker.attacks_http import PATHS, SMUGGLING

REQUESTS = (*CREATE, *ENDPOINTS, *SMUGGLING, *PATHS, *BUILD)
REAL = [attack for attack in (*ENDPOINTS, *SMUGGLING, *PATHS, *BUILD, *CONTEXTS) if attack.real]
"""Those of CREATE are all real, and are tried in a test of their own."""
