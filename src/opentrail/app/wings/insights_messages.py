"""What the server asks the process of Insights; it does not load what that computes with."""

from __future__ import annotations

from opentrail.adapters.ipc.link import IpcRequest
from opentrail.insights.follower import RemoteWatch

#: Methods of a watch that are called directly.
CALLS = (
    RemoteWatch.state,
    RemoteWatch.resume,
    RemoteWatch.expect,
    RemoteWatch.observe,
    RemoteWatch.pass_time,
    RemoteWatch.acknowledge,
    RemoteWatch.begin,
    RemoteWatch.learn,
    RemoteWatch.abandon,
    RemoteWatch.learn_principals,
    RemoteWatch.adopt,
)


class StopWatch(IpcRequest[None], frozen=True):
    """Write a snapshot and end."""
