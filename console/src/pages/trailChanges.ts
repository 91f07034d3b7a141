/** The calls of the CloudTrail API for a changed form of a trail. */

import { type AdvancedEventSelector, type AdvancedSelector, fromApi, fromBasic, selectSame, titleOf, toApi } from "./advancedSelectors";
import { type EventSelector, eventSelectors, insightSelectors, type Selection, selectionError, START_SELECTION } from "./trailPlan";
import { type Form, START } from "./turnOn";

/** A trail in the form of GetTrail. */
export interface StoredTrail {
  Name: string;
  TrailARN: string;
  S3BucketName: string;
  S3KeyPrefix?: string;
  IsMultiRegionTrail?: boolean;
  LogFileValidationEnabled?: boolean;
  KmsKeyId?: string;
  SnsTopicARN?: string;
}

/** Its selectors in the form of GetEventSelectors. */
export interface StoredSelectors {
  EventSelectors?: EventSelector[];
  AdvancedEventSelectors?: AdvancedEventSelector[];
}

/** An Insights selector in the form of GetInsightSelectors. */
export interface InsightSelector {
  InsightType: string;
  EventCategories?: string[];
}

/** The event selection of a trail in the form. */
export interface Events {
  kind: "basic" | "advanced";
  /** The state of the basic form, and Insights for both forms. */
  selection: Selection;
  /** The trail's basic selectors, if the basic form cannot show them fully. */
  complex: EventSelector[];
  /** Whether these stay unchanged. */
  keepsComplex: boolean;
  advanced: AdvancedSelector[];
  /** Whether the user chose basic selectors that cannot replace the advanced ones. */
  replaces: boolean;
  /** The trail's selectors of Insights. */
  insights: InsightSelector[];
}

export interface Change {
  operation: "UpdateTrail" | "PutEventSelectors" | "PutInsightSelectors";
  input: Record<string, unknown>;
  /** The change, in words. */
  text: string;
}

export function formOf(trail: StoredTrail): Form {
  return {
    ...START,
    name: trail.Name,
    createBucket: false,
    bucket: trail.S3BucketName,
    bucketEdited: true,
    allRegions: trail.IsMultiRegionTrail ?? false,
    prefix: trail.S3KeyPrefix ?? "",
    encrypt: Boolean(trail.KmsKeyId),
    kmsKey: trail.KmsKeyId ?? "",
    validation: trail.LogFileValidationEnabled ?? false,
    notify: Boolean(trail.SnsTopicARN),
    topic: trail.SnsTopicARN ?? "",
  };
}

const DATA: Record<string, { choice: "s3" | "lambda"; value: string }> = {
  "AWS::S3::Object": { choice: "s3", value: "arn:aws:s3" },
  "AWS::Lambda::Function": { choice: "lambda", value: "arn:aws:lambda" },
};

/** Basic selectors in the form; null: the form cannot show them fully. */
function selectionOf(selectors: EventSelector[]): Selection | null {
  const selector = selectors[0];
  if (!selector || selectors.length > 1 || selector.ExcludeManagementEventSources?.length) return null;
  if (!selector.IncludeManagementEvents && selector.ReadWriteType !== "All") return null;
  const management = selector.IncludeManagementEvents ? (selector.ReadWriteType as Selection["management"]) : "None";
  const selection: Selection = { ...START_SELECTION, management };
  for (const { Type, Values } of selector.DataResources) {
    const known = DATA[Type];
    if (!known || Values.length !== 1 || (Values[0] !== known.value && Values[0] !== `${known.value}:::`)) return null;
    selection[known.choice] = true;
  }
  return selection;
}

export function eventsOf({ EventSelectors = [], AdvancedEventSelectors = [] }: StoredSelectors, insights: InsightSelector[]): Events {
  const types = insights.map(({ InsightType }) => InsightType);
  const isAdvanced = AdvancedEventSelectors.length > 0;
  const selection = isAdvanced ? null : selectionOf(EventSelectors);
  return {
    kind: isAdvanced ? "advanced" : "basic",
    selection: {
      ...(selection ?? START_SELECTION),
      callRate: types.includes("ApiCallRateInsight"),
      errorRate: types.includes("ApiErrorRateInsight"),
    },
    complex: selection ? [] : EventSelectors,
    keepsComplex: !isAdvanced && !selection,
    advanced: AdvancedEventSelectors.map(fromApi),
    replaces: false,
    insights,
  };
}

/** Insights selectors. Existing ones keep members that the form does not show. */
function insightsOf({ selection, insights }: Events): InsightSelector[] {
  return insightSelectors(selection).map((chosen) => insights.find(({ InsightType }) => InsightType === chosen.InsightType) ?? chosen);
}

function basicOf({ complex, keepsComplex, selection }: Events): EventSelector[] {
  return keepsComplex ? complex : eventSelectors(selection);
}

const CHOICES = (["All", "WriteOnly", "ReadOnly", "None"] as const).flatMap((management) =>
  [false, true].flatMap((s3) => [false, true].map((lambda) => ({ management, s3, lambda }))),
);

/** The choices of the basic form that select the same events; null if there are none. */
export function toBasic(selectors: AdvancedSelector[]): Pick<Selection, "management" | "s3" | "lambda"> | null {
  return CHOICES.find((choice) => selectSame(fromBasic(eventSelectors({ ...START_SELECTION, ...choice })), selectors)) ?? null;
}

/** Advanced selectors for the same events, or the trail's previous advanced selectors. */
export function asAdvanced(events: Events): Events {
  if (events.replaces) return { ...events, kind: "advanced", replaces: false };
  const equal = fromBasic(basicOf(events));
  return { ...events, kind: "advanced", advanced: selectSame(equal, events.advanced) ? events.advanced : equal };
}

/** The same events by basic selectors if these can select them, otherwise all management events. */
export function asBasic(events: Events): Events {
  const keepsComplex = events.complex.length > 0 && selectSame(fromBasic(events.complex), events.advanced);
  const equal = toBasic(events.advanced);
  const { management, s3, lambda } = equal ?? START_SELECTION;
  return { ...events, kind: "basic", keepsComplex, selection: { ...events.selection, management, s3, lambda }, replaces: !keepsComplex && !equal };
}

/** The selectors as members of PutEventSelectors. */
export function selectorsOf(events: Events): StoredSelectors {
  return events.kind === "advanced" ? { AdvancedEventSelectors: events.advanced.map(toApi) } : { EventSelectors: basicOf(events) };
}

/** Why the trail cannot have these events. */
export function eventsError(events: Events): string | null {
  if (events.kind === "basic") return events.keepsComplex ? null : selectionError(events.selection);
  if (!events.advanced.length) return "Add a selector: the trail would deliver nothing.";
  const { callRate, errorRate } = events.selection;
  const management = events.advanced.filter(({ category }) => category === "Management");
  if (!management.length && (callRate || errorRate)) return "Insights of this page look at management events; choose these too.";
  const onlyReads = management.every(({ conditions }) => conditions.some(({ field, values }) => field === "readOnly" && !values.includes("false")));
  return onlyReads && callRate ? "The API call rate counts write events; choose these too." : null;
}

interface State {
  form: Form;
  events: Events;
}

/** The calls that apply the form to a trail, in order. */
export function changesOf(arn: string, before: State, after: State): Change[] {
  return [...update(arn, before.form, after.form), ...selected(arn, before.events, after.events)];
}

function update(arn: string, before: Form, after: Form): Change[] {
  const values = (form: Form): Record<string, string | boolean> => ({
    S3BucketName: form.bucket,
    S3KeyPrefix: form.prefix,
    IsMultiRegionTrail: form.allRegions,
    EnableLogFileValidation: form.validation,
    KmsKeyId: form.encrypt ? form.kmsKey.trim() : "",
    SnsTopicName: form.notify ? form.topic.trim() : "",
  });
  const old = values(before);
  const changed = Object.entries(values(after)).filter(([name, value]) => old[name] !== value);
  if (!changed.length) return [];
  const words = changed.map(([name, value]) => (value === "" ? `no ${name}` : `${name} = ${value}`));
  return [{ operation: "UpdateTrail", input: { Name: arn, ...Object.fromEntries(changed) }, text: words.join(", ") }];
}

function selected(arn: string, before: Events, after: Events): Change[] {
  const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);
  const [selectors, insights] = [selectorsOf(after), insightsOf(after)];
  const changes: Change[] = [];
  if (!same(selectorsOf(before), selectors)) {
    changes.push({ operation: "PutEventSelectors", input: { TrailName: arn, ...selectors }, text: eventWords(after) });
  }
  if (!same(insightsOf(before), insights)) {
    const words = insights.map(({ InsightType }) => InsightType).join(", ") || "no Insights events";
    changes.push({ operation: "PutInsightSelectors", input: { TrailName: arn, InsightSelectors: insights }, text: words });
  }
  return changes;
}

function eventWords({ kind, advanced, selection: { management, s3, lambda } }: Events): string {
  if (kind === "advanced") return `advanced event selectors: ${advanced.map(titleOf).join(", ")}`;
  const parts = [`management events: ${management}`, ...(s3 ? ["S3 objects"] : []), ...(lambda ? ["Lambda functions"] : [])];
  return parts.join(", ");
}
