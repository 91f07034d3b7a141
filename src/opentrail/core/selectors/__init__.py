"""Event selection of trails and event data stores (cloudtrail-format §7).

`chosen` reads and checks the selectors of a request, `Selection` is their value and document, and
`predicate_of` compiles them to a predicate.
"""

from opentrail.core.selectors.advanced import SelectorOwner
from opentrail.core.selectors.basic import Predicate
from opentrail.core.selectors.selection import (
    ADVANCED,
    DEFAULT,
    STORE_DEFAULT,
    Selection,
    predicate_of,
    read_selection,
)

__all__ = [
    "ADVANCED",
    "DEFAULT",
    "STORE_DEFAULT",
    "Predicate",
    "Selection",
    "SelectorOwner",
    "predicate_of",
    "read_selection",
]
