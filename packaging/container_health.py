"""The container's health check: fails unless `/health` answers that calls are recorded."""

import sys
from argparse import Namespace

from opentrail.commands.client import find
from opentrail.core.errors import OpentrailError

try:
    state = find(Namespace(data_dir=None, endpoint=None)).health()["status"]
except OpentrailError as error:
    state = f"failing: {error}"
print(state)
sys.exit(state.startswith("failing"))
