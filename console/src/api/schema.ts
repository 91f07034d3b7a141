/** Types of the server's answers. Made by scripts/reference.py; do not edit. */

/** The agent or tool that made a call, according to its caller. */
export interface AgentRow {
  delegator: string | null;
  kind: "agent" | "ci" | "iac" | "scanner" | "tool" | "workflow";
  name: string;
  session: string | null;
}

/** Who asks. */
export interface Asker {
  role: "admin" | "auditor" | "operator" | "viewer";
  user: string;
}

/** The data in the record of an event, without sentences. */
export interface CallRow {
  accessKeyId: string | null;
  account: string;
  arn: string | null;
  category: string;
  errorCode: string | null;
  eventId: string;
  eventName: string;
  eventSource: string;
  eventTime: string;
  mfa: boolean | null;
  principalType: string | null;
  readOnly: boolean;
  region: string;
  requestId: string | null;
  resources: ResourceRow[];
  sourceIp: string | null;
  userAgent: string | null;
  username: string | null;
}

/** The calls that led to the caller of an event, and the caller's next calls. */
export interface CallerChain {
  end: string;
  kind: "human" | "service" | "unknown";
  next: EventRow[];
  origin: string | null;
  sessionTags: Record<string, string>;
  sourceIdentity: string | null;
  steps: EventRow[];
}

/** Numbers of calls by the policies' decision. */
export interface CallsByDecision {
  allowed: number;
  denied: number;
  unknown: number;
}

/** Numbers of calls, without zeros. */
export interface CallsByOutcome {
  allowed?: number;
  denied?: number;
  failed?: number;
}

/** A changed user, and its one-time password if it has a new one; empty for a deleted user. */
export interface ChangedUser {
  endedSessions?: number;
  password?: string;
  user?: User;
}

/** A link that opens the web console once, within ten minutes. */
export interface ConsoleLink {
  url: string;
}

/** A number of events; with `gte` there are more. */
export interface Count {
  relation: "eq" | "gte";
  value: number;
}

/** A value, and the number of events that have it. */
export interface CountedValue {
  count: number;
  value: string;
}

/** The call that created a resource. */
export interface Creation {
  certain: boolean;
  evidence: RecordEvidence;
  sentence: string;
}

/** The calls that issued a caller's credentials, back to the original caller. */
export interface CredentialChain {
  end: string;
  kind: "human" | "service" | "unknown";
  origin: string | null;
  sessionTags: Record<string, string>;
  sourceIdentity: string | null;
  steps: ProvenSentence[];
}

/** An object in a trail's bucket that differs from the delivered one. */
export interface DamagedObject {
  event: string | null;
  name: string;
  reason: string;
}

/** The keys of the delivered files. */
export interface DeliveredFiles {
  digestFiles: string[];
  logFiles: string[];
  trail: string;
}

/** A rule with the YAML that it was compiled from. */
export interface DetectionDetail {
  author: string;
  complete: boolean;
  correlation: string | null;
  description: string;
  enabledAt: string | null;
  enabledBy: string | null;
  falsePositives: string[];
  lastMatch: string | null;
  level: string;
  matches: number;
  name: string;
  references: string[];
  source: string;
  starter: boolean;
  tags: string[];
  technique: string;
  title: string;
}

/** A match that a test found. */
export interface DetectionExample {
  eventIds: string[];
  eventName: string;
  eventTime: string;
  principal: string | null;
}

/** A match of a rule. */
export interface DetectionMatch {
  account: string;
  eventId: string;
  eventIds: string[];
  eventName: string;
  eventSource: string;
  eventTime: string;
  groupBy: Record<string, string>;
  level: string;
  principals: string[];
  region: string;
  rule: string;
  title: string;
}

/** Matches, newest first, and the ranges missing from event history. */
export interface DetectionMatches {
  matches: DetectionMatch[];
  missing: string[];
}

/** A rule, and the number of its matches. */
export interface DetectionRow {
  author: string;
  complete: boolean;
  correlation: string | null;
  description: string;
  enabledAt: string | null;
  enabledBy: string | null;
  falsePositives: string[];
  lastMatch: string | null;
  level: string;
  matches: number;
  name: string;
  references: string[];
  starter: boolean;
  tags: string[];
  technique: string;
  title: string;
}

/** The enabled rules by name, and the starter rules that are not enabled. */
export interface DetectionRules {
  missing: string[];
  notEnabled: DetectionRow[];
  rules: DetectionRow[];
}

/** The matches of a rule in past events. */
export interface DetectionTest {
  events: number;
  examples: DetectionExample[];
  first: string | null;
  last: string | null;
  level: string;
  matches: number;
  missing: string[];
  readBackTo: string | null;
  rule: string;
  title: string;
  warnings: string[];
}

/** A resource in the form of LookupEvents. */
export interface DocumentResource {
  ResourceName: string;
  ResourceType?: string;
}

/** Events around an event that share a property with it, in order of time. */
export interface EventContext {
  after: EventRow[];
  before: EventRow[];
}

/** An event with its record as stored. */
export interface EventDetail {
  event: EventRow;
  record: string;
}

/** An event in the form of LookupEvents. */
export interface EventDocument {
  AccessKeyId?: string;
  CloudTrailEvent: string;
  EventId: string;
  EventName: string;
  EventSource: string;
  EventTime: number;
  ReadOnly: "false" | "true";
  Resources: DocumentResource[];
  Username?: string;
}

/** Events over time; each period lasts some seconds. */
export interface EventHistogram {
  buckets: PeriodCount[];
  end: string;
  seconds: number;
  start: string;
}

/** A page of events, newest first. */
export interface EventPage {
  events: EventRow[];
  hidden?: HiddenEvents | null;
  missing: string[];
  next: string | null;
  tookMs: number;
}

/** The proofs of an event, one per trail; an imported event has none. */
export interface EventProofs {
  imported: boolean;
  trails: Proof[];
}

/** An event in lists and in the head of its page. */
export interface EventRow {
  accessKeyId: string | null;
  account: string;
  agent: AgentRow | null;
  arn: string | null;
  category: string;
  clause: string;
  errorCode: string | null;
  eventId: string;
  eventName: string;
  eventSource: string;
  eventTime: string;
  method: MethodRow | null;
  mfa: boolean | null;
  parts: SentencePart[];
  principalType: string | null;
  readOnly: boolean;
  region: string;
  requestId: string | null;
  resources: ResourceRow[];
  sentence: string;
  sourceIp: string | null;
  userAgent: string | null;
  username: string | null;
}

/** The reason why a call was denied, as far as its record shows it. */
export interface ExplainedDenial {
  action: string | null;
  errorCode: string | null;
  errorMessage: string | null;
  event: CallRow;
  isActionRecorded: boolean;
  missing: string[];
  policyType: string | null;
  resource: string | null;
  sentence: string;
  verdict: string;
}

/** The terms of an expression, none if it is invalid. */
export interface ExpressionTerms {
  error: WrongPlace | null;
  terms: TermRow[];
}

/** The most frequent values of each field. */
export interface Facets {
  facets: Record<string, CountedValue[]>;
}

/** Who created, renamed and deleted a former resource of a name. */
export interface FormerLife {
  created: Creation | null;
  deleted: ProvenSentence | null;
  name: string;
  renamed: ProvenSentence[];
}

/** Events in the form of LookupEvents, newest first, and hints about the search. */
export interface FoundEvents {
  corrected?: NearestRow[];
  events: EventDocument[];
  hidden?: HiddenEvents | null;
  missing: string[];
  nearest?: NearestRow[];
  parts?: PartsRow;
  truncated?: boolean;
}

/** The recorded and visible positions, the freshness, and the problems. */
export interface HealthSummary {
  degradations: string[];
  events: number;
  freshness: VisibleAfter;
  insecureTrustedNetworks: string[];
  recorded: number;
  status: "degraded" | "failing" | "ok";
  visible: number;
}

/** Events hidden by the default conditions of a search. */
export interface HiddenEvents {
  complete: boolean;
  count: number;
  flags: string[];
  regions: string[];
}

/** An incident with its record, and the calls per minute in a period around it. */
export interface IncidentDetail {
  account: string;
  average: number;
  baseline: number;
  end: string | null;
  errorCode: string | null;
  eventName: string;
  eventSource: string;
  expected: string | null;
  extension: Record<string, unknown> | null;
  from: string;
  id: string;
  identity: string | null;
  insightType: string;
  minutes: ([string, number])[];
  record: Record<string, unknown>;
  region: string;
  sentence: string;
  sourceIPAddress: string | null;
  start: string;
  state: "open" | "over";
  until: string;
}

/** Incidents, newest first, and the ranges missing from event history. */
export interface IncidentList {
  incidents: IncidentRow[];
  missing: string[];
}

/** An incident in a list. */
export interface IncidentRow {
  account: string;
  average: number;
  baseline: number;
  end: string | null;
  errorCode: string | null;
  eventName: string;
  eventSource: string;
  expected: string | null;
  extension: Record<string, unknown> | null;
  id: string;
  identity: string | null;
  insightType: string;
  minutes: number;
  region: string;
  sentence: string;
  sourceIPAddress: string | null;
  start: string;
  state: "open" | "over";
}

/** The state of Insights, and its progress. */
export interface InsightsState {
  daysLearned: number;
  daysScanned: number | null;
  daysToLearn: number;
  daysToScan: number | null;
  keys: number | null;
  knownSince: string | null;
  openIncidents: number | null;
  state: string;
  unwatchedCalls: number | null;
  unwatchedUses: number | null;
  watchedUntil: string | null;
}

/** The identity behind an access key id. */
export interface KnownIdentity {
  account: string;
  agentTag: string | null;
  deletedBy: string | null;
  transitiveTags: Record<string, string>;
  userIdentity: unknown;
}

/** The last change of a resource. */
export interface LastChange {
  complete: boolean;
  evidence: RecordEvidence;
  sentence: string;
  times: number;
}

/** The creator, the last changes and the deletion of a resource or principal. */
export interface LifeStory {
  former: string[][];
  maker: EventRow | null;
  sentences: string[];
}

/** A principal in the list of callers. */
export interface ListedPrincipal {
  account: string | null;
  arn: string;
  events: number;
  failed: number;
  first: string;
  kind: "IAM user" | "federated user" | "role" | "role session" | "root user" | null;
  last: string;
  name: string;
}

/** A resource in the list of named resources. */
export interface ListedResource {
  aliases: string[];
  counted: boolean;
  events: number | null;
  latest: EventRow;
  name: string;
  type: string | null;
}

/** The position of the newest durable record, 0 without records. */
export interface Mark {
  position: number;
}

/** Records after a mark, oldest first, up to a position. */
export interface MarkedRecords {
  complete: boolean;
  position: number;
  records: unknown[];
}

/** The method of a call. */
export interface MethodRow {
  kind: "cli" | "code" | "console" | "opentrail" | "other" | "sdk" | "service";
  name: string;
}

/** The creator of a named resource, else the last action of that user; and later changes. */
export interface NameAnswer {
  behind: string | null;
  calls: number;
  changes: number;
  clause: string | null;
  complete: boolean;
  event: EventRow | null;
  failed: number;
  lastChange: string | null;
  name: string;
  sentence: string | null;
  types: string[];
}

/** A searched value that no event has, and the most similar value in events. */
export interface NearestRow {
  difference: "case" | "letters";
  events: number;
  field: string;
  label: string;
  nearest: string;
  value: string;
}

/** The closest existing values for a search without results. */
export interface NearestValues {
  nearest: NearestRow[];
}

/** A personal token, and its secret, which only this answer has. */
export interface NewPersonalToken {
  secret: string;
  token: PersonalToken;
}

/** The original caller behind the credentials of an event. */
export interface OriginRow {
  kind: "human" | "service";
  parts: SentencePart[];
  words: string;
}

/** The original caller of each event for which it is recorded, by event ID. */
export interface Origins {
  origins: Record<string, OriginRow>;
}

/** Events that have the searched words as parts of words. */
export interface PartsRow {
  complete: boolean;
  events: number;
  members: CountedValue[];
  words: string[];
}

/** The used and unused actions of a pattern. */
export interface PatternUsage {
  pattern: string;
  statement: number;
  unused: string[] | null;
  used: string[];
}

/** The numbers of successful and failed events in a period. */
export interface PeriodCount {
  failed: number;
  ok: number;
  time: string;
}

/** A personal token, without its secret. */
export interface PersonalToken {
  created: string;
  expires: string;
  name: string;
  user: string;
}

/** The personal tokens, by user and name. */
export interface PersonalTokenList {
  tokens: PersonalToken[];
}

/** Calls for which a policy and the records differ in the same way. */
export interface PolicyDifference {
  action: string;
  calls: number;
  eventId: string;
  eventTime: string;
  reason: string;
  resource: string;
}

/** A policy that allows the recorded calls of a principal, and its uncertainties. */
export interface PolicyOfCalls {
  calls: CallsByOutcome;
  complete: boolean;
  events: number;
  missing: string[];
  policies: (Record<string, unknown>)[];
  principal: string;
  refusedByIt: number | null;
  unlimited: Record<string, number>;
  unmapped: Record<string, number>;
  unverified: Record<string, number>;
  warning: string | null;
}

/** The policies' decisions about past calls. */
export interface PolicyTest {
  allowedCalls: CallsByDecision;
  complete: boolean;
  deniedCalls: CallsByDecision;
  events: number;
  missing: string[];
  newlyAllowed: PolicyDifference[];
  newlyDenied: PolicyDifference[];
  principal: string;
  unknown: PolicyDifference[];
  warning: string | null;
}

/** The calls of a principal: their number, values and times. */
export interface Principal {
  agents: CountedValue[];
  agentsOf: number;
  arn: string;
  events: number;
  first: string;
  hours: number[][];
  ips: CountedValue[];
  keys: CountedValue[];
  last: string;
  latest: EventRow[];
  sentence: string;
  services: CountedValue[];
  story: LifeStory;
}

/** Principals, in order of their last call. */
export interface PrincipalList {
  complete: boolean;
  principals: ListedPrincipal[];
}

/** The proof of an event from a trail's bucket. */
export interface Proof {
  arn: string;
  bucket: string;
  digestKey: string | null;
  fault: string | null;
  key: string | null;
  message: string;
  state: "broken" | "pending" | "proven" | "unknown" | "unsigned";
  trail: string;
}

/** A sentence about a call, and its evidence. */
export interface ProvenSentence {
  evidence: RecordEvidence;
  sentence: string;
}

/** A column of a result. */
export interface QueryColumn {
  name: string;
  type: string;
}

/** Queries, newest first. */
export interface QueryHistory {
  queries: QuerySummary[];
}

/** The state of a query, and rows of its result. */
export interface QueryPage {
  bytesScanned: number;
  columns: QueryColumn[];
  error: string | null;
  eventsScanned: number;
  missing: string[];
  progress: number | null;
  queryId: string;
  rows: ((string | null)[])[];
  status: "CANCELLED" | "FAILED" | "FINISHED" | "QUEUED" | "RUNNING" | "TIMED_OUT";
  total: number;
}

/** A query, without its rows. */
export interface QuerySummary {
  queryId: string;
  statement: string;
  status: "CANCELLED" | "FAILED" | "FINISHED" | "QUEUED" | "RUNNING" | "TIMED_OUT";
  started: string;
  seconds: number | null;
  rows: number | null;
  error: string | null;
}

/** The members of a record that prove a sentence. */
export interface RecordEvidence {
  accessKeyId: string | null;
  eventId: string | null;
  eventName: string | null;
  eventTime: string | null;
  principal: string | null;
  sourceIPAddress: string | null;
  userAgent: string | null;
}

/** The event that records a question. */
export interface RecordedQuestion {
  eventId: string;
}

/** Who created, changed and deleted a resource, and who was behind the credentials. */
export interface ResourceLife {
  account: string;
  caller: CredentialChain;
  changed: LastChange | null;
  created: Creation | null;
  deleted: ProvenSentence | null;
  former: FormerLife[];
  name: string;
  next: ProvenSentence[];
  region: string | null;
  renamed: ProvenSentence[];
  type: string | null;
}

/** Resources, in order of the newest event that names each. */
export interface ResourceList {
  complete: boolean;
  resources: ListedResource[];
}

/** A resource that an event names. */
export interface ResourceRow {
  name: string;
  type: string | null;
}

/** The story of a resource in sentences, and the events that name it. */
export interface ResourceStory {
  answers: ResourceLife[];
  complete: boolean;
  events: EventRow[];
  sentences: string[];
  story: LifeStory;
}

/** A view under its name. */
export interface SavedView {
  name: string;
  state: ViewState;
  version: number;
}

/** All views that the caller may see, by name. */
export interface SavedViews {
  views: SavedView[];
}

/** The incidents that a scan of old events found, and the number of recorded ones. */
export interface Scan {
  incidents: IncidentRow[];
  known: number;
}

/** The number of events, their histogram, and the most frequent values of each field. */
export interface SearchOverview {
  count: number;
  facets: Record<string, CountedValue[]>;
  histogram: EventHistogram;
}

/** The number of the newest events of the last day that event selectors select. */
export interface SelectorPreview {
  complete: boolean;
  events: number;
  leftOut: CountedValue[];
  selected: number;
}

/** Words of a clause with the spaces around them, and the `kind` of thing that they name. */
export interface SentencePart {
  kind: "actor" | "actor-type" | "agent" | "method" | "object" | "object-type" | "plain" | "refusal" | "session" | "verb";
  text: string;
}

/** The session of a browser, and the accounts and Regions that pages offer. */
export interface SessionInfo {
  account: string;
  accounts: string[];
  expires: string;
  hasPassword: boolean;
  region: string;
  regions: string[];
  role: "admin" | "auditor" | "operator" | "viewer";
  user: string;
  version: string;
}

/** Whether users may sign in by a provider. */
export interface SignInWays {
  oidc: boolean;
}

/** Event data stores, by name. */
export interface StoreList {
  stores: StoreSummary[];
}

/** The settings and the status of an event data store. */
export interface StoreSummary {
  account: string;
  arn: string;
  categories: string[];
  created: string;
  multiRegion: boolean;
  name: string;
  region: string;
  restorableUntil: string | null;
  retentionDays: number;
  selectors: (Record<string, unknown>)[];
  sql: string;
  status: "ENABLED" | "PENDING_DELETION" | "STOPPED_INGESTION";
  tags: Record<string, string>;
  terminationProtection: boolean;
  updated: string;
}

/** Event history, or an event data store. */
export interface TableSummary {
  sql: string;
  name: string;
  id: string | null;
  category: string | null;
  account: string | null;
  region: string | null;
  status: "ENABLED" | "PENDING_DELETION" | "STOPPED_INGESTION";
  retentionDays: number | null;
  created: string | null;
  iceberg: string | null;
}

/** The tables, and the columns that they have. */
export interface TablesAnswer {
  tables: TableSummary[];
  columns: QueryColumn[];
  activityColumns: QueryColumn[];
}

/** The number of records that were recorded. */
export interface Taken {
  taken: number;
}

/** A term of an expression; terms joined by AND form an expression.

    A comparison of a whole field has `field` (its longest name), `operator` (`=` or `!=`) and
    `value`, a pattern. A searched word or phrase has a `value` only. */
export interface TermRow {
  field: string | null;
  operator: "!=" | "=" | null;
  text: string;
  value: string | null;
}

/** The history of a principal or resource, oldest first. */
export interface Timeline {
  complete: boolean;
  entries: TimelineEntry[];
  expression: string;
  missing: string[];
  name: string;
}

/** Calls of one operation by one caller with one outcome, made in quick succession. */
export interface TimelineEntry {
  agent: AgentRow | null;
  behind: string | null;
  calls: number;
  errorCode: string | null;
  eventIds: string[];
  eventName: string;
  first: string;
  last: string;
  resources: string[];
  words: string;
}

/** The digests that a trail must have: the first digest of each chain, and the newest. */
export interface TrailDigests {
  chains: (Record<string, unknown>)[];
  trail: string;
  undelivered: UndeliveredRange[];
}

/** Trails, by name. */
export interface TrailList {
  trails: TrailSummary[];
}

/** A trail with its health, and its latest verification. */
export interface TrailSummary {
  account: string;
  arn: string;
  bucket: string;
  homeRegion: string;
  insights: boolean;
  kmsKey: string | null;
  latestDelivery: string | null;
  latestDigest: string | null;
  logGroup: string | null;
  logging: boolean;
  multiRegion: boolean;
  name: string;
  prefix: string;
  reason: string | null;
  status: "Failing" | "Logging" | "Off";
  topic: string | null;
  validation: boolean;
  verified: Verification | null;
}

/** Positions of events in no log file, and when that was found. */
export interface UndeliveredRange {
  first: number;
  found: string;
  last: number;
}

/** The actions of policies that a principal used and never used. */
export interface UnusedActions {
  complete: boolean;
  events: number;
  missing: string[];
  patterns: PatternUsage[];
  principal: string;
  warning: string | null;
}

/** An access key, and the call that created it. */
export interface UnusedKey {
  accessKeyId: string;
  created: string;
  eventId: string;
  account: string | null;
  userName: string | null;
  createdBy: string | null;
}

/** Created access keys that no call has used and no recorded call has deleted. */
export interface UnusedKeysAnswer {
  keys: UnusedKey[];
  complete: boolean;
  missing: string[];
}

/** A user of the web console. */
export interface User {
  accounts: string[] | null;
  active: boolean;
  created: string;
  mustChangePassword: boolean;
  name: string;
  role: "admin" | "auditor" | "operator" | "viewer";
}

/** The users, by name. */
export interface UserList {
  users: User[];
}

/** The most frequent values of a field. */
export interface Values {
  values: CountedValue[];
}

/** The latest findings in a trail's bucket. */
export interface Verification {
  at: string;
  findings: DamagedObject[];
  more: number;
  valid: boolean;
}

/** The verifier's result for a trail. */
export interface Verified {
  lines: string[];
  valid: boolean;
}

/** The parts of the address of Event history that a view saves, or the statement for SQL. */
export interface ViewState {
  account?: string;
  categories?: string;
  columns?: string;
  expression?: string;
  last?: string;
  region?: string;
  since?: string;
  statement?: string;
  until?: string;
}

/** Milliseconds until records of the last minute were visible; None without records. */
export interface VisibleAfter {
  p50Ms: number | null;
  p99Ms: number | null;
}

/** Who created, changed and deleted the resources of a name, or suggestions. */
export interface WhoAnswer {
  answers: ResourceLife[];
  events: number;
  evidence?: RecordEvidence;
  first?: EventDocument[];
  missing: string[];
  nearest?: NearestRow[];
  record?: string;
  resource: string;
  sentence: string | null;
  types?: string[];
}

/** An error in an expression. */
export interface WrongPlace {
  at: number | null;
  length: number;
  message: string;
}

/** Why a request failed. */
export interface Error {
  error: string;
  code?: string;
  requestId?: string;
}
