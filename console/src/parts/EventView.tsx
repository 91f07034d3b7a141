import Badge from "@cloudscape-design/components/badge";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SegmentedControl from "@cloudscape-design/components/segmented-control";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Tabs from "@cloudscape-design/components/tabs";
import { type ReactNode, useEffect, useMemo, useState } from "react";
import { get, post } from "../api/client";
import type { Agent, Around, Context, Event, EventDetail, Proofs } from "../api/types";
import { useCall } from "../api/useCall";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate, useQuery, useRoute } from "../app/router";
import { useMay } from "../app/session";
import { DEFAULT_EXPRESSION, setExpression, withValue } from "../filter/conditions";
import { comparison, isField } from "../filter/expression";
import { span, spoken, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";
import { asCode } from "./asCode";
import { CallerChain } from "./CallerChain";
import { Copy } from "./Copy";
import { JsonTree } from "./JsonTree";
import { at, decode, indented, type Node, parseJson } from "./json";
import { Problem } from "./Problem";
import ProofView, { overall, ProofBadge } from "./ProofView";

/** Adds a value to the filter of the Event history, or opens it with the value alone. */
function search(path: string, query: URLSearchParams, field: string, value: string, include: boolean): void {
  if (path === "/events") setExpression(withValue(query.get("expression") ?? DEFAULT_EXPRESSION, field, value, include));
  else navigate(href("/events", { expression: comparison(field, value, include), categories: "all" }));
}

export function useEvent(id: string): ReturnType<typeof useCall<EventDetail>> {
  return useCall((signal) => get<EventDetail>(`events/${encodeURIComponent(id)}`, {}, signal), [id]);
}

/** One event, in tabs, or in sections on a phone; the parent component draws the heading. */
export function EventTabs({ detail, onOpen }: { detail: EventDetail; onOpen: (id: string) => void }): ReactNode {
  const [tab, setTab] = useQuery("tab");
  const narrow = useNarrow();
  const { event, record } = detail;
  const { path, query } = useRoute();
  const pick = (field: string, value: string, include = true): void => search(path, query, field, value, include);
  const parsed = useMemo(() => {
    try {
      return parseJson(record);
    } catch {
      return undefined;
    }
  }, [record]);
  const id = event.eventId;
  // A proof reads the bucket, so the page requests it when its tab opens. Its badge stays.
  const [proving, setProving] = useState<string | null>(null);
  const wanted = tab === "proof" ? id : proving;
  useEffect(() => setProving(wanted), [wanted]);
  const mayProve = useMay("auditor");
  const asks = mayProve && wanted === id;
  const proof = useCall(asks ? (signal) => post<Proofs>(`events/${encodeURIComponent(id)}/proof`, {}, {}, signal) : null, [id, asks]);
  const state = overall(proof.data?.trails ?? []);
  const tabs = [
    { id: "summary", label: "Summary", content: <Summary event={event} parsed={parsed} pick={pick} onOpen={onOpen} /> },
    { id: "record", label: "Record", content: <RecordTab record={record} parsed={parsed} pick={pick} /> },
    { id: "context", label: "Context", content: <ContextTab event={event} onOpen={onOpen} /> },
    { id: "code", label: "Code", content: <AsCode event={event} /> },
    ...(mayProve ? [{ id: "proof", label: "Proof", content: <ProofView call={proof} /> }] : []),
  ];
  const active = tabs.some(({ id }) => id === tab) ? (tab ?? "summary") : "summary";
  return (
    <>
      {state && (
        <button type="button" className="plain" onClick={() => setTab("proof")}>
          <span className="hidden">Proof: </span>
          <ProofBadge state={state} />
        </button>
      )}
      {narrow ? (
        <SpaceBetween size="s">
          {tabs[0]?.content}
          {tabs.slice(1).map(({ id: name, label, content }) => (
            <ExpandableSection
              key={name}
              headerText={label}
              headingTagOverride="h3"
              expanded={active === name}
              onChange={({ detail: { expanded } }) => setTab(expanded ? name : null)}
            >
              {active === name && content}
            </ExpandableSection>
          ))}
        </SpaceBetween>
      ) : (
        <div className="event-tabs">
          <Tabs tabs={tabs} activeTabId={active} onChange={({ detail: chosen }) => setTab(chosen.activeTabId)} />
        </div>
      )}
    </>
  );
}

interface ValueProps {
  field?: string;
  value: string | null | undefined;
  pick: (field: string, value: string, include?: boolean) => void;
  target?: string;
}

/** A value with a menu: search for it, exclude it, copy it. */
function Value({ field, value, pick, target }: ValueProps): ReactNode {
  if (value === null || value === undefined || value === "") return "–";
  return (
    <span className="with-menu">
      <span className="wrap">
        {target ? (
          <Link href={target} onFollow={follow}>
            {visible(value)}
          </Link>
        ) : (
          visible(value)
        )}
      </span>
      {field && (
        <ButtonDropdown
          variant="inline-icon"
          ariaLabel={`Actions for ${visible(value)}`}
          items={[
            { id: "include", text: "Only events with this value" },
            { id: "exclude", text: "No events with this value" },
            { id: "copy", text: "Copy" },
          ]}
          onItemClick={({ detail }) => {
            if (detail.id === "copy") void navigator.clipboard?.writeText(value);
            else pick(field, value, detail.id === "include");
          }}
        />
      )}
    </span>
  );
}

function textAt(parsed: Node | undefined, ...path: string[]): string | null {
  const found = at(parsed, ...path);
  return found?.kind === "string" ? decode(found.source) : found && "source" in found ? found.source : null;
}

interface SummaryProps {
  event: Event;
  parsed: Node | undefined;
  pick: ValueProps["pick"];
  onOpen: (id: string) => void;
}

function Summary({ event, parsed, pick, onOpen }: SummaryProps): ReactNode {
  const { zone } = usePreferences();
  const principal = event.arn ? href("/principals", { arn: event.arn }) : undefined;
  const value = (field: string | undefined, text: string | null, target?: string): ReactNode => (
    <Value field={field} value={text} pick={pick} target={target} />
  );
  const message = textAt(parsed, "errorMessage");
  return (
    <SpaceBetween size="l">
      {event.errorCode && (
        <StatusIndicator type="error">
          {visible(event.errorCode)}
          {message && `: ${visible(message)}`}
        </StatusIndicator>
      )}
      <CallerChain event={event} onOpen={onOpen} />
      <KeyValuePairs
        columns={2}
        minColumnWidth={220}
        items={[
          {
            type: "group",
            title: "Who",
            items: [
              { label: "User name", value: value("username", event.username) },
              { label: "Principal", value: value("arn", event.arn, principal) },
              { label: "Principal type", value: show(event.principalType) },
              { label: "AWS access key", value: value("accessKeyId", event.accessKeyId) },
              { label: "MFA", value: event.mfa === null ? "not known" : event.mfa ? "yes" : "no" },
              { label: "Account", value: value("recipientAccountId", event.account) },
              ...(event.agent ? [{ label: "By the agent, as it says", value: <AgentValue agent={event.agent} pick={pick} /> }] : []),
            ],
          },
          {
            type: "group",
            title: "What and where",
            items: [
              { label: "Event name", value: value("eventName", event.eventName) },
              { label: "Event source", value: value("eventSource", event.eventSource) },
              { label: `Event time (${zoneName(zone)})`, value: stamp(event.eventTime, zone) },
              { label: "AWS Region", value: value("awsRegion", event.region) },
              { label: "Source IP address", value: value("sourceIPAddress", event.sourceIp) },
              { label: "User agent", value: value("userAgent", event.userAgent) },
              { label: "Kind", value: `${visible(event.category)}, ${event.readOnly ? "read-only" : "write"}` },
              { label: "Event ID", value: value("eventId", event.eventId) },
              { label: "Request ID", value: value("requestID", event.requestId) },
            ],
          },
        ]}
      />
      <div>
        <Box variant="h3">Resources</Box>
        <Resources event={event} />
      </div>
    </SpaceBetween>
  );
}

const AGENT_KINDS: Record<Agent["kind"], string> = {
  agent: "agent",
  iac: "infrastructure as code",
  ci: "continuous integration",
  scanner: "scanner",
  workflow: "workflow",
  tool: "tool",
};

function AgentValue({ agent, pick }: { agent: Agent; pick: ValueProps["pick"] }): ReactNode {
  const { name, kind, session, delegator } = agent;
  const more = [kind !== "agent" && AGENT_KINDS[kind], delegator && `for ${delegator}`, session && `session ${session}`].filter(Boolean);
  return (
    <>
      <Value field="agent" value={name} pick={pick} />
      {more.length > 0 && <span className="wrap secondary"> {visible(more.join(", "))}</span>}
    </>
  );
}

function RecordTab({ record, parsed, pick }: { record: string; parsed: Node | undefined; pick: ValueProps["pick"] }): ReactNode {
  return (
    <SpaceBetween size="s">
      <SpaceBetween direction="horizontal" size="xs">
        <Copy label="Copy the record" text={() => (parsed ? indented(parsed) : record)}>
          Copy
        </Copy>
        <Copy label="Copy the record on one line" text={() => record}>
          Copy as stored
        </Copy>
      </SpaceBetween>
      <JsonTree text={record} onPick={(path, value) => isField(path) && pick(path, value)} />
    </SpaceBetween>
  );
}

function Resources({ event }: { event: Event }): ReactNode {
  if (!event.resources.length) return <Box>This call names no resource.</Box>;
  return (
    <SpaceBetween size="s">
      {event.resources.map(({ type, name }, index) => (
        <div key={index} className="wrap">
          <Link href={href("/resources", { name, ...(type ? { type } : {}) })} onFollow={follow}>
            {visible(name)}
          </Link>{" "}
          <Box variant="span" color="text-body-secondary">
            {show(type)}
          </Box>
        </div>
      ))}
    </SpaceBetween>
  );
}

const AROUND: [Around, string, (event: Event) => boolean][] = [
  ["principal", "Same principal", (event) => Boolean(event.arn)],
  ["resource", "Same resource", (event) => event.resources.length > 0],
  ["ip", "Same IP address", (event) => Boolean(event.sourceIp)],
  ["key", "Same access key", (event) => Boolean(event.accessKeyId)],
];

function ContextTab({ event, onOpen }: { event: Event; onOpen: (id: string) => void }): ReactNode {
  const choices = AROUND.filter(([, , has]) => has(event));
  const [by, setBy] = useState<Around>(choices[0]?.[0] ?? "principal");
  const [reads, setReads] = useState(false);
  const { data, error, loading, reload } = useCall(
    choices.length ? (signal) => get<Context>(`events/${encodeURIComponent(event.eventId)}/context`, { by, limit: 20 }, signal) : null,
    [event.eventId, by],
  );
  if (!choices.length) return <Box>The record names neither principal, resource, address nor key.</Box>;
  const around = data && [...newestLast(data.before), event, ...newestLast(data.after)];
  const folded = around?.filter(({ readOnly, eventId }) => readOnly && eventId !== event.eventId).length ?? 0;
  return (
    <SpaceBetween size="m">
      <SegmentedControl
        label="Events by"
        selectedId={by}
        options={choices.map(([id, text]) => ({ id, text }))}
        onChange={({ detail }) => setBy(detail.selectedId as Around)}
      />
      <Problem error={error} what="The events around this one could not be loaded" onRetry={reload} />
      {loading && !data && <Spinner />}
      {around && (
        <table className="plain-table">
          <thead>
            <tr>
              <th scope="col">From this event</th>
              <th scope="col">What happened</th>
            </tr>
          </thead>
          <tbody>
            {around
              .filter(({ readOnly, eventId }) => reads || !readOnly || eventId === event.eventId)
              .map((other) => (
                <tr key={other.eventId}>
                  <td className="numbers">{delta(event, other)}</td>
                  <td className="wrap">
                    {other.eventId === event.eventId ? (
                      <strong>{visible(other.clause)}</strong>
                    ) : (
                      <button type="button" className="plain" onClick={() => onOpen(other.eventId)}>
                        {visible(other.clause)}
                      </button>
                    )}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      )}
      {folded > 0 && (
        <Button variant="inline-link" onClick={() => setReads(!reads)}>
          {reads ? "Hide" : "Show"} {folded} read-only {folded === 1 ? "call" : "calls"}
        </Button>
      )}
    </SpaceBetween>
  );
}

function newestLast(events: Event[]): Event[] {
  return [...events].sort((a, b) => Date.parse(a.eventTime) - Date.parse(b.eventTime));
}

function delta(event: Event, other: Event): string {
  if (event.eventId === other.eventId) return "this event";
  const seconds = (Date.parse(other.eventTime) - Date.parse(event.eventTime)) / 1000;
  if (seconds === 0) return "same second";
  return `${seconds > 0 ? "+" : "−"}${span(seconds)}`;
}

function AsCode({ event }: { event: Event }): ReactNode {
  return (
    <SpaceBetween size="l">
      {asCode(event).map(({ title, text }) => (
        <div key={title}>
          <SpaceBetween direction="horizontal" size="xs">
            <Box variant="h3">{title}</Box>
            <Copy label={`Copy: ${title}`} text={() => text} />
          </SpaceBetween>
          <pre className="json" tabIndex={0}>
            {text.split("\n").map(visible).join("\n")}
          </pre>
        </div>
      ))}
    </SpaceBetween>
  );
}

export function EventHeading({ event }: { event: Event }): ReactNode {
  const { zone } = usePreferences();
  return (
    <span className="wrap">
      {visible(spoken(event, zone))} {event.errorCode && <Badge color="red">Failed</Badge>}
    </span>
  );
}

