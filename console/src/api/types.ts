/** What the server sends. */

export interface Session {
  account: string;
  accounts: string[];
  region: string;
  regions: string[];
  version: string;
  user: string;
  role: Role;
  /** Whether the user signs in by a password of this server. */
  hasPassword: boolean;
  expires: string;
}

export type Role = "viewer" | "auditor" | "operator" | "admin";

export interface User {
  name: string;
  role: Role;
  accounts: string[] | null;
  created: string;
  active: boolean;
  mustChangePassword: boolean;
}

export interface Resource {
  type: string | null;
  name: string;
}

export interface Event {
  eventId: string;
  eventTime: string;
  eventName: string;
  eventSource: string;
  region: string;
  account: string;
  category: string;
  readOnly: boolean;
  username: string | null;
  principalType: string | null;
  arn: string | null;
  accessKeyId: string | null;
  sourceIp: string | null;
  userAgent: string | null;
  errorCode: string | null;
  requestId: string | null;
  mfa: boolean | null;
  resources: Resource[];
  /** What happened, beginning with its time in UTC. */
  sentence: string;
  /** The same without its time. */
  clause: string;
}

export interface Page {
  events: Event[];
  next: string | null;
  tookMs: number;
  missing: string[];
}

export interface Count {
  value: number;
  relation: "eq" | "gte";
}

export interface Bucket {
  time: string;
  ok: number;
  failed: number;
}

export interface Histogram {
  start: string;
  end: string;
  seconds: number;
  buckets: Bucket[];
}

export interface ValueCount {
  value: string;
  count: number;
}

export interface EventDetail {
  event: Event;
  record: string;
}

export interface Context {
  before: Event[];
  after: Event[];
}

export type Around = "principal" | "resource" | "ip" | "key";

export interface Incident {
  id: string;
  start: string;
  end: string | null;
  sentence: string;
  eventName: string;
  eventSource: string;
  type: string;
  errorCode: string | null;
  baseline: number;
  insight: number;
  expected: { note: string; until?: string } | null;
}

export interface Attribution {
  attribute: string;
  insight: { value: string; average: number }[];
  baseline: { value: string; average: number }[];
}

export interface IncidentDetail extends Incident {
  minutes: { time: string; calls: number; expected: number | null }[];
  attributions: Attribution[];
  record: string;
}

export interface Principal {
  arn: string;
  name: string | null;
  sentence?: string;
  first: string;
  last: string;
  events: number;
  /** Whether `events` are all of them, not only the newest ones. */
  complete?: boolean;
  services: ValueCount[];
  ips: ValueCount[];
  keys: ValueCount[];
  agents: ValueCount[];
  /** Events by weekday (Monday first) and hour, in UTC. */
  hours: number[][];
  latest: Event[];
}

export interface ResourceStory {
  sentences: string[];
  events: Event[];
}

export interface TrailSummary {
  arn: string;
  name: string;
  bucket: string;
  homeRegion: string;
  multiRegion: boolean;
  logging: boolean;
  status: "Logging" | "Off" | "Failing";
  reason: string | null;
  latestDelivery: string | null;
  latestDigest: string | null;
  validation: boolean;
  verified?: Verification | null;
}

export type ProofState = "proven" | "pending" | "broken" | "unsigned" | "unknown";

/** What a trail's bucket proves of an event. */
export interface Proof {
  trail: string;
  arn: string;
  state: ProofState;
  message: string;
  bucket: string;
  key: string | null;
  digestKey: string | null;
}

export interface Proofs {
  trails: Proof[];
  imported: boolean;
}

/** What a trail's bucket was found to hold, last. */
export interface Verification {
  at: string;
  valid: boolean;
  findings: { name: string; reason: string; event: string | null }[];
  more: number;
}

/** What a saved view keeps of the Event history's address. */
export interface ViewState {
  expression?: string;
  last?: string;
  since?: string;
  until?: string;
  account?: string;
  region?: string;
  categories?: string;
  columns?: string;
}

export interface SavedView {
  name: string;
  version: number;
  state: ViewState;
}

export interface Health {
  status: "ok" | "degraded" | "failing";
  degradations: string[];
  recorded: number;
  visible: number;
  freshness: { p50Ms: number | null; p99Ms: number | null };
  events: number;
}

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
