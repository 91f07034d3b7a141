import Link from "@cloudscape-design/components/link";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import type { TableProps } from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import type { Event } from "../api/types";
import { href } from "../app/router";
import { stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";

export interface ColumnOptions {
  zone: string;
  narrow?: boolean;
  /** What a click on the event opens; without it the link leads to the event's page. */
  onOpen?: (event: Event) => void;
}

type Column = TableProps.ColumnDefinition<Event> & { id: string; label: string };

export function Result({ event }: { event: Event }): ReactNode {
  return event.errorCode ? (
    <StatusIndicator type="error">{visible(event.errorCode)}</StatusIndicator>
  ) : (
    <StatusIndicator type="success">Success</StatusIndicator>
  );
}

export function resourceText(event: Event, member: "name" | "type"): string {
  const found = [...new Set(event.resources.map((resource) => resource[member]).filter(Boolean))] as string[];
  if (!found.length) return "–";
  const rest = found.length > 1 ? ` and ${found.length - 1} more` : "";
  return visible(found[0] ?? "") + rest;
}

export function columns({ zone, narrow = false, onOpen }: ColumnOptions): Column[] {
  const link = (event: Event, text: string): ReactNode => (
    <span data-row={event.eventId}>
      <Link
        href={href(`/events/${encodeURIComponent(event.eventId)}`)}
        onFollow={(followed) => {
          if (!onOpen) return;
          followed.preventDefault();
          onOpen(event);
        }}
      >
        {text}
      </Link>
    </span>
  );
  const column = (id: string, label: string, width: number, cell: (event: Event) => ReactNode): Column => ({
    id,
    label,
    header: label,
    cell,
    width,
    minWidth: 90,
  });
  return [
    {
      ...column("what", "What happened", narrow ? 230 : 470, (event) => link(event, visible(event.clause))),
      minWidth: 230,
    },
    column("name", "Event name", 190, (event) => link(event, visible(event.eventName))),
    {
      ...column("time", "Event time", 195, (event) => <span className="numbers">{stamp(event.eventTime, zone)}</span>),
      header: `Event time (${zoneName(zone)})`,
    },
    column("user", "User name", 130, (event) => show(event.username)),
    column("source", "Event source", 190, (event) => visible(event.eventSource)),
    column("resourceType", "Resource type", 180, (event) => resourceText(event, "type")),
    column("resourceName", "Resource name", 200, (event) => resourceText(event, "name")),
    column("result", "Result", 215, (event) => <Result event={event} />),
    column("ip", "Source IP", 140, (event) => show(event.sourceIp)),
    column("region", "Region", 120, (event) => visible(event.region)),
    column("key", "Access key", 210, (event) => show(event.accessKeyId)),
    column("id", "Event ID", 320, (event) => visible(event.eventId)),
    column("request", "Request ID", 320, (event) => show(event.requestId)),
    column("readOnly", "Read-only", 110, (event) => String(event.readOnly)),
    column("category", "Category", 130, (event) => visible(event.category)),
    column("principalType", "Principal type", 150, (event) => show(event.principalType)),
    column("agent", "User agent", 260, (event) => show(event.userAgent)),
    column("account", "Account", 140, (event) => visible(event.account)),
    column("mfa", "MFA", 80, (event) => (event.mfa === null ? "–" : event.mfa ? "yes" : "no")),
  ];
}

export const PRESETS = {
  Sentences: ["time", "what", "user", "ip", "result"],
  /** On narrow screens, where a table is as wide as a sentence. */
  Narrow: ["what", "time", "result"],
  AWS: ["name", "time", "user", "source", "resourceType", "resourceName"],
} as const;
