/** What a changed form of a trail means as calls of the CloudTrail API. */

import type { EventSelector, Selection } from "./trailPlan";
import { eventSelectors, insightSelectors } from "./trailPlan";
import { type Form, START } from "./turnOn";

/** A trail as GetTrail has it. */
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

/** Its selectors as GetEventSelectors has them. */
export interface StoredSelectors {
  EventSelectors?: (EventSelector & { ExcludeManagementEventSources?: string[] })[];
  AdvancedEventSelectors?: unknown[];
}

export interface Change {
  operation: "UpdateTrail" | "PutEventSelectors" | "PutInsightSelectors";
  input: Record<string, unknown>;
  /** What it changes, in words. */
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

/** The events of a trail as the form offers them; null: its selectors say more than the form can. */
export function selectionOf({ EventSelectors, AdvancedEventSelectors }: StoredSelectors, insights: string[]): Selection | null {
  const selector = EventSelectors?.[0];
  if (AdvancedEventSelectors?.length || !selector || EventSelectors.length > 1 || selector.ExcludeManagementEventSources?.length) return null;
  if (!selector.IncludeManagementEvents && selector.ReadWriteType !== "All") return null;
  const selection: Selection = {
    management: selector.IncludeManagementEvents ? (selector.ReadWriteType as Selection["management"]) : "None",
    s3: false,
    lambda: false,
    callRate: insights.includes("ApiCallRateInsight"),
    errorRate: insights.includes("ApiErrorRateInsight"),
  };
  for (const { Type, Values } of selector.DataResources) {
    const known = DATA[Type];
    if (!known || Values.length !== 1 || (Values[0] !== known.value && Values[0] !== `${known.value}:::`)) return null;
    selection[known.choice] = true;
  }
  return selection;
}

interface State {
  form: Form;
  /** null: the form does not change what events the trail delivers. */
  selection: Selection | null;
}

/** The calls that make a trail what its form says, in their order. */
export function changesOf(arn: string, before: State, after: State): Change[] {
  return [...update(arn, before.form, after.form), ...selected(arn, before.selection, after.selection)];
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

function selected(arn: string, before: Selection | null, after: Selection | null): Change[] {
  if (!before || !after) return [];
  const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);
  const [events, insights] = [eventSelectors(after), insightSelectors(after)];
  const changes: Change[] = [];
  if (!same(eventSelectors(before), events)) {
    changes.push({ operation: "PutEventSelectors", input: { TrailName: arn, EventSelectors: events }, text: eventWords(after) });
  }
  if (!same(insightSelectors(before), insights)) {
    const words = insights.map(({ InsightType }) => InsightType).join(", ") || "no Insights events";
    changes.push({ operation: "PutInsightSelectors", input: { TrailName: arn, InsightSelectors: insights }, text: words });
  }
  return changes;
}

function eventWords({ management, s3, lambda }: Selection): string {
  const parts = [`management events: ${management}`, ...(s3 ? ["S3 objects"] : []), ...(lambda ? ["Lambda functions"] : [])];
  return parts.join(", ");
}
