/** Types of the server's answers under the names that pages use, and types of pages alone. */

import type { Proof, SessionInfo } from "./schema";

export type {
  AgentRow as Agent,
  CallerChain,
  ChangedUser,
  Count,
  EventContext as Context,
  EventDetail,
  ExpressionTerms,
  EventHistogram as Histogram,
  EventPage as Page,
  EventProofs as Proofs,
  EventRow as Event,
  HealthSummary as Health,
  IncidentRow as Incident,
  IncidentDetail,
  LifeStory,
  NameAnswer,
  NearestValues,
  NewPersonalToken,
  OriginRow as Origin,
  Origins,
  PersonalToken,
  PersonalTokenList,
  PolicyDifference,
  PolicyOfCalls,
  PolicyTest,
  Principal,
  PrincipalList,
  ListedPrincipal,
  Proof,
  QueryColumn,
  QueryHistory,
  QueryPage,
  QuerySummary,
  ResourceList,
  ListedResource,
  ResourceStory,
  SavedView,
  SearchOverview,
  SelectorPreview,
  SessionInfo as Session,
  StoreList,
  StoreSummary,
  TableSummary,
  TablesAnswer,
  TermRow as Term,
  Timeline,
  TimelineEntry,
  TrailList,
  TrailSummary,
  User,
  UserList,
  CountedValue as ValueCount,
  DetectionMatch,
  DetectionDetail,
  DetectionRow as Detection,
  DetectionRules,
  DetectionTest,
  Verification,
  ViewState,
} from "./schema";

export type ProofState = Proof["state"];

export type Role = SessionInfo["role"];

export type Around = "principal" | "resource" | "ip" | "key";

export interface TurnOn {
  name: string;
  allRegions: boolean;
  createBucket: boolean;
  bucket: string;
  prefix: string;
  kmsKey: string | null;
  validation: boolean;
  topic: string | null;
  createTopic: boolean;
}

export type StepName = "bucket" | "policy" | "topic" | "trail" | "logging";

export interface Step {
  step: StepName;
  done: boolean;
  error: { code: string; message: string } | null;
}
