import Icon, { type IconProps } from "@cloudscape-design/components/icon";
import type { ReactNode } from "react";
import type { Event } from "../api/types";
import { ago, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";

/** The display of times: in a zone, or relative to a moment. */
export interface Times {
  zone: string;
  now: number | null;
}

/** A column of a list of events. */
export interface Column {
  id: string;
  label: string;
  /** Its track in a CSS grid, or the track's width in characters. */
  width: string | ((events: readonly Event[], times: Times) => number);
  /** Its text; a cell that truncates it shows the whole text on hover. */
  text: (event: Event, times: Times) => string;
  /** The hover text, if it differs from the cell's. */
  hover?: (event: Event, times: Times) => string;
  /** The cell's content, if it is not the text. */
  cell?: (event: Event) => ReactNode;
}

export function resourceText(event: Event, member: "name" | "type"): string {
  const found = [...new Set(event.resources.map((resource) => resource[member]).filter(Boolean))] as string[];
  if (!found.length) return "–";
  const rest = found.length > 1 ? ` and ${found.length - 1} more` : "";
  return visible(found[0] ?? "") + rest;
}

type MethodKind = NonNullable<Event["method"]>["kind"];

const METHOD_ICONS: Record<Exclude<MethodKind, "opentrail">, IconProps.Name> = {
  console: "globe",
  cli: "command-prompt",
  sdk: "script",
  code: "convert-code",
  service: "settings",
  other: "status-pending",
};

const OWN_ICON = (
  <svg viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d="M2 12c3 0 3-8 6-8s3 8 6 8" />
    <circle cx="2.5" cy="12" r="1.5" />
    <circle cx="13.5" cy="12" r="1.5" />
  </svg>
);

/** The method of a call, as an icon with the sentence's words. */
function Method({ method }: { method: Event["method"] }): ReactNode {
  if (!method) return null;
  return method.kind === "opentrail" ? <Icon svg={OWN_ICON} /> : <Icon name={METHOD_ICONS[method.kind]} />;
}

function ErrorCode({ code }: { code: string }): ReactNode {
  return (
    <span className="failed">
      <Icon name="status-negative" size="small" ariaLabel="Failed" /> {visible(code)}
    </span>
  );
}

/** As wide as the longest text, up to a number of characters. */
function upTo(most: number, text: (event: Event) => string | null): (events: readonly Event[]) => number {
  return (events) => Math.min(most, Math.max(MIN_WIDTH, ...events.map((event) => text(event)?.length ?? 0)));
}

const MIN_WIDTH = 9;

/** The year now, with the hyphen after it. */
function thisYear(zone: string): string {
  return stamp(Date.now(), zone).slice(0, "2020-".length);
}

export const COLUMNS: readonly Column[] = [
  {
    id: "time",
    label: "Event time",
    width: (events, { zone, now }) => (now !== null || events.every(({ eventTime }) => eventTime.startsWith(thisYear(zone))) ? 14 : 19),
    text: ({ eventTime }, { zone, now }) => {
      if (now !== null) return ago(eventTime, now);
      const [text, year] = [stamp(eventTime, zone), thisYear(zone)];
      return text.startsWith(year) ? text.slice(year.length) : text;
    },
    hover: ({ eventTime }, { zone }) => `${stamp(eventTime, zone)} ${zoneName(zone)}, ${ago(eventTime)}`,
  },
  {
    id: "method",
    label: "Method",
    width: "20px",
    text: ({ method }) => (method ? visible(method.name) : ""),
    cell: ({ method }) => <Method method={method} />,
  },
  { id: "what", label: "What happened", width: "minmax(200px, 1fr)", text: (event) => visible(event.clause) },
  { id: "name", label: "Event name", width: upTo(28, ({ eventName }) => eventName), text: (event) => visible(event.eventName) },
  { id: "user", label: "User name", width: "130px", text: (event) => show(event.username) },
  { id: "source", label: "Event source", width: "190px", text: (event) => visible(event.eventSource) },
  { id: "resourceType", label: "Resource type", width: "180px", text: (event) => resourceText(event, "type") },
  { id: "resourceName", label: "Resource name", width: "200px", text: (event) => resourceText(event, "name") },
  { id: "ip", label: "Source IP", width: upTo(18, ({ sourceIp }) => sourceIp), text: (event) => show(event.sourceIp) },
  {
    id: "result",
    label: "Error",
    width: upTo(20, ({ errorCode }) => errorCode),
    text: ({ errorCode }) => (errorCode ? visible(errorCode) : ""),
    cell: ({ errorCode }) => errorCode && <ErrorCode code={errorCode} />,
  },
  { id: "region", label: "Region", width: "120px", text: (event) => visible(event.region) },
  { id: "key", label: "Access key", width: "190px", text: (event) => show(event.accessKeyId) },
  { id: "id", label: "Event ID", width: "300px", text: (event) => visible(event.eventId) },
  { id: "request", label: "Request ID", width: "300px", text: (event) => show(event.requestId) },
  { id: "readOnly", label: "Read-only", width: "90px", text: (event) => String(event.readOnly) },
  { id: "category", label: "Category", width: "110px", text: (event) => visible(event.category) },
  { id: "principalType", label: "Principal type", width: "130px", text: (event) => show(event.principalType) },
  { id: "agent", label: "User agent", width: "260px", text: (event) => show(event.userAgent) },
  { id: "account", label: "Account", width: "116px", text: (event) => visible(event.account) },
  { id: "mfa", label: "MFA", width: "60px", text: (event) => (event.mfa === null ? "–" : event.mfa ? "yes" : "no") },
];

export function columnsOf(ids: readonly string[]): Column[] {
  return ids.flatMap((id) => COLUMNS.find((column) => column.id === id) ?? []);
}

/** The tracks of columns in a CSS grid. */
export function tracksOf(columns: readonly Column[], events: readonly Event[], times: Times): string {
  return columns.map(({ width }) => (typeof width === "string" ? width : `${width(events, times)}ch`)).join(" ");
}

/** The heading of a column. */
export function headOf({ id, label }: Column, { zone, now }: Times): ReactNode {
  if (id === "method") return <span className="hidden">{label}</span>;
  return id === "time" ? (now === null ? `Time (${zoneName(zone)})` : "Time") : label;
}

export const PRESETS = {
  Sentences: ["time", "method", "what", "ip", "result"],
  AWS: ["name", "time", "user", "source", "resourceType", "resourceName"],
} as const;
