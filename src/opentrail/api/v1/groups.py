"""All groups of the JSON API, for its description and for tests."""

from __future__ import annotations

from opentrail.api.console.oidc import OidcSignIn
from opentrail.api.console.sign_in import SignIn
from opentrail.api.console.web import WebSession
from opentrail.api.v1.administration import AccessAdministration, ImportedFiles, ReceivedRecords
from opentrail.api.v1.asked import QuestionRoutes
from opentrail.api.v1.counts import EventCounts
from opentrail.api.v1.detections import Detections
from opentrail.api.v1.events import Events
from opentrail.api.v1.export import EventExport
from opentrail.api.v1.incidents import Incidents
from opentrail.api.v1.marks import Marks
from opentrail.api.v1.proofs import Proofs
from opentrail.api.v1.questions import AgentQuestions
from opentrail.api.v1.state import State
from opentrail.api.v1.stories import Stories
from opentrail.api.v1.streams import Streams
from opentrail.api.v1.tail import Tail
from opentrail.api.v1.trail_administration import TrailAdministration
from opentrail.api.v1.trails import Trails
from opentrail.api.v1.user_tokens import UserTokenAdministration
from opentrail.api.v1.users import UserAdministration
from opentrail.api.v1.views import Views

#: In the order in which the reference describes them.
GROUPS: tuple[type, ...] = (
    Events,
    EventExport,
    EventCounts,
    Streams,
    Tail,
    Marks,
    Stories,
    QuestionRoutes,
    Incidents,
    Detections,
    Trails,
    TrailAdministration,
    Proofs,
    State,
    AccessAdministration,
    ReceivedRecords,
    ImportedFiles,
    AgentQuestions,
    WebSession,
    SignIn,
    OidcSignIn,
    UserAdministration,
    UserTokenAdministration,
    Views,
)
