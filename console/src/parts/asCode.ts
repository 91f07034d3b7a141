/** The search for one event as code. */

import type { Event } from "../api/types";
import { comparison } from "../filter/expression";

function shell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function asCode(event: Event): { title: string; text: string }[] {
  const start = Date.parse(event.eventTime);
  const iso = (time: number): string => new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
  return [
    { title: "opentrail", text: `opentrail lookup ${shell(comparison("eventId", event.eventId))} --all-accounts --all-regions --json` },
    {
      title: "AWS CLI",
      text: [
        "aws cloudtrail lookup-events \\",
        `    --lookup-attributes AttributeKey=EventId,AttributeValue=${shell(event.eventId)} \\`,
        `    --region ${shell(event.region)}`,
      ].join("\n"),
    },
    {
      title: "boto3",
      text: [
        "import boto3",
        "",
        `cloudtrail = boto3.client("cloudtrail", region_name=${JSON.stringify(event.region)})`,
        "answer = cloudtrail.lookup_events(",
        `    LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": ${JSON.stringify(event.eventName)}}],`,
        `    StartTime=${JSON.stringify(iso(start))},`,
        `    EndTime=${JSON.stringify(iso(start + 1000))},`,
        ")",
      ].join("\n"),
    },
  ];
}
