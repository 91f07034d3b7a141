"""Which events a trail or an event data store takes (cloudtrail-format §7).

`chosen` reads and checks what a caller gave, `Selection` is its value and its document,
`predicate_of` what decides about events.
"""

from opentrail.core.selectors.owner import SelectorOwner
from opentrail.core.selectors.predicate import Predicate, predicate_of
from opentrail.core.selectors.selection import DEFAULT, STORE_DEFAULT, Selection, chosen

__all__ = [
    "DEFAULT",
    "STORE_DEFAULT",
    "Predicate",
    "Selection",
    "SelectorOwner",
    "chosen",
    "predicate_of",
]
