"""Resource-based policies of event data stores, channels and dashboards.

A resource exists if the control store has its document, of one of the kinds below, with the key
`ACCOUNT/REGION/NAME`. Who removes the document removes the policy with it: `removal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from opentrail.core.arns import CHANNEL, DASHBOARD, STORE, CloudTrailArn
from opentrail.core.errors import MalformedPolicy, StorageFailed
from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.ports.collection import Codec, KnownCollection
from opentrail.ports.control import ControlStore, Document, Remove

RESOURCE_POLICY_KIND = "resource-policy"
#: Type of a resource that can have a policy → kind of its document.
KINDS: Mapping[str, str] = MappingProxyType(
    {STORE: "event-data-store", CHANNEL: "channel", DASHBOARD: "dashboard"}
)


class ResourcePolicies:
    """The resource-based policies in a control store.

    `find` answers from memory; `load` reads other processes' changes.
    """

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        self._policies: KnownCollection[str, Policy] = KnownCollection(
            control,
            RESOURCE_POLICY_KIND,
            Codec(lambda stored: str(stored.document["policy"]), lambda text: {"policy": text}),
            view=_parse,
        )

    async def load(self) -> None:
        """Reads all policies.

        Raises:
            StorageFailed: a policy in the store is not valid; the earlier policies stay in effect.
        """
        await self._policies.load()

    def find(self, arn: CloudTrailArn) -> Policy | None:
        """Returns the policy of a resource."""
        return self._policies.known.get(_key(arn))

    async def exists(self, arn: CloudTrailArn) -> bool:
        """Returns whether there is a resource that can have a policy."""
        kind = KINDS.get(arn.type)
        if kind is None:
            return False
        return await self._control.get(kind, _place(arn)) is not None

    async def read(self, arn: CloudTrailArn) -> str | None:
        """Returns the original document of a resource's policy."""
        item = await self._policies.find(_key(arn))
        return item.value if item else None

    async def put(self, arn: CloudTrailArn, document: str) -> None:
        """Sets the policy of a resource.

        Raises:
            Conflict: it was changed at the same time.
            MalformedPolicy: the document is not a valid resource-based policy.
        """
        key = _key(arn)
        parse_policy(document, PolicyKind.RESOURCE, str(arn))
        async with self._policies.turn:
            item = await self._policies.find(key)
            await self._policies.put(key, document, item.stored.version if item else 0)

    async def delete(self, arn: CloudTrailArn) -> None:
        """Removes the policy of a resource, if any."""
        await self._policies.apply([removal(arn)])


def removal(arn: CloudTrailArn) -> Remove:
    """Returns the change that removes a resource's policy, to be made with the resource's own."""
    return Remove(RESOURCE_POLICY_KIND, _key(arn))


def _key(arn: CloudTrailArn) -> str:
    return f"{arn.account}/{arn.region}/{arn.type}/{arn.name}"


def _place(arn: CloudTrailArn) -> str:
    return f"{arn.account}/{arn.region}/{arn.name}"


def _parse(key: str, document: Document) -> Policy:
    account, region, kind, name = key.split("/", 3)
    arn = str(CloudTrailArn(kind, region, account, name))
    try:
        return parse_policy(document["policy"], PolicyKind.RESOURCE, arn, is_stored=True)
    except MalformedPolicy as error:
        raise StorageFailed(f"resource policy {key} in the store is not valid: {error}") from error
