/** The events that a new trail delivers: in words, in the API's form, and as commands. */

import { type Form, request } from "./turnOn";

export interface Selection {
  management: "All" | "WriteOnly" | "ReadOnly" | "None";
  s3: boolean;
  lambda: boolean;
  callRate: boolean;
  errorRate: boolean;
}

export const START_SELECTION: Selection = { management: "All", s3: false, lambda: false, callRate: false, errorRate: false };

export interface EventSelector {
  ReadWriteType: string;
  IncludeManagementEvents: boolean;
  DataResources: { Type: string; Values: string[] }[];
  ExcludeManagementEventSources?: string[];
}

export function eventSelectors({ management, s3, lambda }: Selection): EventSelector[] {
  return [
    {
      ReadWriteType: management === "None" ? "All" : management,
      IncludeManagementEvents: management !== "None",
      DataResources: [
        ...(s3 ? [{ Type: "AWS::S3::Object", Values: ["arn:aws:s3"] }] : []),
        ...(lambda ? [{ Type: "AWS::Lambda::Function", Values: ["arn:aws:lambda"] }] : []),
      ],
    },
  ];
}

export function insightSelectors({ callRate, errorRate }: Selection): { InsightType: string }[] {
  return [
    ...(callRate ? [{ InsightType: "ApiCallRateInsight" }] : []),
    ...(errorRate ? [{ InsightType: "ApiErrorRateInsight" }] : []),
  ];
}

/** Whether the trail needs selectors: without any it delivers all management events. */
export function needsSelectors(selection: Selection): boolean {
  return selection.management !== "All" || selection.s3 || selection.lambda;
}

export function selectionError({ management, s3, lambda, callRate, errorRate }: Selection): string | null {
  if (management === "None" && !s3 && !lambda) return "Choose management or data events: the trail would deliver nothing.";
  if (management === "None" && (callRate || errorRate)) return "Insights of this page look at management events; choose these too.";
  if (management === "ReadOnly" && callRate) return "The API call rate counts write events; choose these too.";
  return null;
}

export function delivered(form: Form, { management, s3, lambda, callRate, errorRate }: Selection): string[] {
  const where = form.allRegions ? "in all Regions" : "in this Region";
  const kinds = { All: "All management events", WriteOnly: "Management events that change something", ReadOnly: "Management events that only read", None: null };
  return [
    ...(kinds[management] ? [`${kinds[management]} ${where}`] : []),
    ...(s3 ? ["Calls for objects of all S3 buckets"] : []),
    ...(lambda ? ["Invocations of all Lambda functions"] : []),
    ...(callRate ? ["Insights events about unusual numbers of calls"] : []),
    ...(errorRate ? ["Insights events about unusual numbers of errors"] : []),
  ];
}

export function notDelivered(form: Form, { management, s3, lambda, callRate, errorRate }: Selection): string[] {
  return [
    ...(management === "None" ? ["Management events"] : []),
    ...(management === "WriteOnly" ? ["Calls that only read, such as List and Describe"] : []),
    ...(management === "ReadOnly" ? ["Calls that change something"] : []),
    ...(s3 ? [] : ["Reading and writing of S3 objects"]),
    ...(lambda ? [] : ["Invocations of Lambda functions"]),
    "Data events of other services; add them with put-event-selectors",
    ...(form.allRegions ? [] : ["Events of other Regions"]),
    ...(callRate || errorRate ? [] : ["Insights events; the Insights page still shows unusual activity"]),
  ];
}

function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function asCommands(form: Form, selection: Selection): string {
  const asked = request(form);
  const name = quoted(asked.name);
  const create = [
    `aws cloudtrail create-trail --name ${name} --s3-bucket-name ${quoted(asked.bucket)}`,
    ...(asked.prefix ? [`--s3-key-prefix ${quoted(asked.prefix)}`] : []),
    asked.allRegions ? "--is-multi-region-trail" : "--no-is-multi-region-trail",
    asked.validation ? "--enable-log-file-validation" : "--no-enable-log-file-validation",
    ...(asked.kmsKey ? [`--kms-key-id ${quoted(asked.kmsKey)}`] : []),
    ...(asked.topic ? [`--sns-topic-name ${quoted(asked.topic)}`] : []),
  ];
  const insights = insightSelectors(selection);
  return [
    ...(asked.createBucket ? [`aws s3 mb s3://${quoted(asked.bucket)}`] : []),
    ...(asked.topic && asked.createTopic ? [`aws sns create-topic --name ${quoted(asked.topic)}`] : []),
    create.join(" \\\n    "),
    ...(needsSelectors(selection)
      ? [`aws cloudtrail put-event-selectors --trail-name ${name} \\\n    --event-selectors ${quoted(JSON.stringify(eventSelectors(selection)))}`]
      : []),
    ...(insights.length
      ? [`aws cloudtrail put-insight-selectors --trail-name ${name} \\\n    --insight-selectors ${quoted(JSON.stringify(insights))}`]
      : []),
    `aws cloudtrail start-logging --name ${name}`,
  ].join("\n");
}

export function asTerraform(form: Form, selection: Selection): string {
  const asked = request(form);
  const text = (value: string): string => JSON.stringify(value).replaceAll("${", "$${");
  const lines = [
    'resource "aws_cloudtrail" "trail" {',
    `  name                       = ${text(asked.name)}`,
    `  s3_bucket_name             = ${text(asked.bucket)}`,
    ...(asked.prefix ? [`  s3_key_prefix              = ${text(asked.prefix)}`] : []),
    `  is_multi_region_trail      = ${asked.allRegions}`,
    `  enable_log_file_validation = ${asked.validation}`,
    ...(asked.kmsKey ? [`  kms_key_id                 = ${text(asked.kmsKey)}`] : []),
    ...(asked.topic ? [`  sns_topic_name             = ${text(asked.topic)}`] : []),
  ];
  if (needsSelectors(selection)) {
    for (const selector of eventSelectors(selection)) {
      lines.push("", "  event_selector {", `    read_write_type           = ${text(selector.ReadWriteType)}`);
      lines.push(`    include_management_events = ${selector.IncludeManagementEvents}`);
      for (const { Type, Values } of selector.DataResources) {
        lines.push("    data_resource {", `      type   = ${text(Type)}`, `      values = ${JSON.stringify(Values)}`, "    }");
      }
      lines.push("  }");
    }
  }
  for (const { InsightType } of insightSelectors(selection)) {
    lines.push("", "  insight_selector {", `    insight_type = ${text(InsightType)}`, "  }");
  }
  return [...lines, "}"].join("\n");
}
