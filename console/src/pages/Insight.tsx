import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import Container from "@cloudscape-design/components/container";
import ContentLayout from "@cloudscape-design/components/content-layout";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import SegmentedControl from "@cloudscape-design/components/segmented-control";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Tabs from "@cloudscape-design/components/tabs";
import { type ReactNode, useMemo, useRef, useState } from "react";
import { get, post } from "../api/client";
import type { IncidentDetail, Page } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { follow, href, useQuery } from "../app/router";
import { useMay } from "../app/session";
import { allOf, comparison } from "../filter/expression";
import { FormDialog } from "../parts/Dialog";
import { csv, save, svgFile } from "../parts/download";
import { EventList } from "../parts/EventList";
import { JsonTree } from "../parts/JsonTree";
import { Problem } from "../parts/Problem";
import { type ChartPoint, TimeChart } from "../parts/TimeChart";
import { perMinute, span, stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";
import { change, Status, typeName } from "./Insights";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const SPANS: [string, string, number][] = [
  ["3h", "3 h", 3 * HOUR],
  ["12h", "12 h", 12 * HOUR],
  ["1d", "1 d", 24 * HOUR],
  ["3d", "3 d", 72 * HOUR],
  ["1w", "1 w", 168 * HOUR],
];
const MAX_BARS = 180;

/** The initial span of an incident's chart, which depends on the duration of the incident. */
export function defaultSpan(length: number): string {
  const hours = length / HOUR;
  return hours < 4 ? "3h" : hours < 12 ? "12h" : hours < 24 ? "1d" : hours < 72 ? "3d" : "1w";
}

/** The minutes around an incident, summed up to limit the number of bars. */
export function bars(incident: IncidentDetail, length: number): { points: ChartPoint[]; step: number } {
  const start = Date.parse(incident.start);
  const end = incident.end ? Date.parse(incident.end) : start;
  const middle = (start + end) / 2;
  const step = Math.max(Math.ceil(length / MAX_BARS / MINUTE), 1) * MINUTE;
  const from = Math.floor((middle - length / 2) / step) * step;
  const many = Math.ceil(length / step);
  const points: ChartPoint[] = Array.from({ length: many }, (_, index) => ({ time: from + index * step, values: [0], expected: null }));
  for (const [time, calls] of incident.minutes) {
    const point = points[Math.floor((Date.parse(time) - from) / step)];
    if (!point) continue;
    point.values[0] = (point.values[0] ?? 0) + calls;
    point.expected = (point.expected ?? 0) + incident.baseline;
  }
  return { points, step };
}

/** The minutes that the chart shows, as the rows of a table. */
export function minuteRows(incident: IncidentDetail, points: ChartPoint[], step: number): (string | number | null)[][] {
  const from = points[0]?.time ?? 0;
  const until = (points.at(-1)?.time ?? 0) + step;
  const { baseline, eventSource, eventName, errorCode } = incident;
  return [
    ["minute", "calls", "baseline", "eventSource", "eventName", "errorCode"],
    ...incident.minutes
      .filter(([time]) => Date.parse(time) >= from && Date.parse(time) < until)
      .map(([time, calls]) => [time, calls, baseline, eventSource, eventName, errorCode]),
  ];
}

export default function Insight({ parameter }: { parameter: string }): ReactNode {
  const { data, error, loading, reload } = useCall((signal) => get<IncidentDetail>(`insights/${encodeURIComponent(parameter)}`, {}, signal), [parameter]);
  if (!data) {
    return (
      <SpaceBetween size="m">
        <Header variant="h1">Insight</Header>
        {loading && <Spinner />}
        <Problem error={error} what={error?.status === 404 ? "There is no such insight" : "The insight could not be loaded"} onRetry={reload} />
      </SpaceBetween>
    );
  }
  return <Detail incident={data} onChange={reload} />;
}

function Detail({ incident, onChange }: { incident: IncidentDetail; onChange: () => void }): ReactNode {
  const { zone } = usePreferences();
  const [marking, setMarking] = useState(false);
  const mayMark = useMay("operator") && incident.expected === null;
  const [tab, setTab] = useQuery("tab");
  const start = Date.parse(incident.start);
  const end = incident.end ? Date.parse(incident.end) : Date.now();
  const [chosen, setChosen] = useState(() => defaultSpan(end - start));
  const length = SPANS.find(([id]) => id === chosen)?.[2] ?? 3 * HOUR;
  const { points, step } = useMemo(() => bars(incident, length), [incident, length]);
  const chart = useRef<HTMLDivElement>(null);
  const download = (form: string): void => {
    const name = `insight-${incident.start.slice(0, 16).replace(/[^\dT]/g, "")}-${chosen}.${form}`;
    const shown = chart.current?.querySelector("svg");
    if (form === "csv") save(name, "text/csv", csv(minuteRows(incident, points, step)));
    else if (shown) save(name, "image/svg+xml", svgFile(shown, incident.sentence));
  };
  const tabs = [
    { id: "attributions", label: "Attributions", content: <Attributions attributions={attributionsOf(incident)} /> },
    { id: "events", label: "CloudTrail events", content: <Events incident={incident} /> },
    { id: "record", label: "Insights event record", content: <JsonTree text={JSON.stringify(incident.record, null, 2)} /> },
  ];
  return (
    <ContentLayout
      header={
        <Header
          variant="h1"
          description={typeName(incident.insightType)}
        >
          <span className="wrap">{visible(incident.sentence)}</span>
        </Header>
      }
    >
      <SpaceBetween size="l">
        {incident.expected !== null && (
          <Alert type="info" header="Expected">
            {visible(incident.expected) || "No note"} · for 90 days, it is reported only if there is more.
          </Alert>
        )}
        <Container
          header={
            <Header variant="h2" actions={mayMark && <Button onClick={() => setMarking(true)}>Mark as expected</Button>}>
              Summary
            </Header>
          }
        >
          <KeyValuePairs
            columns={4}
            items={[
              { label: `Start (${zoneName(zone)})`, value: stamp(incident.start, zone) },
              { label: "Duration", value: incident.end ? span((end - start) / 1000) : "still going on" },
              { label: "Calls", value: `${perMinute(incident.average)}, usually ${perMinute(incident.baseline)} (${change(incident)})` },
              { label: "Status", value: <Status incident={incident} /> },
            ]}
          />
        </Container>
        <Container
          header={
            <Header
              variant="h2"
              actions={
                <SpaceBetween direction="horizontal" size="xs">
                  <SegmentedControl
                    label="Time shown"
                    selectedId={chosen}
                    options={SPANS.map(([id, text]) => ({ id, text }))}
                    onChange={({ detail }) => setChosen(detail.selectedId)}
                  />
                  <ButtonDropdown
                    items={[
                      { id: "csv", text: "CSV", secondaryText: "Calls and baseline of each minute" },
                      { id: "svg", text: "SVG", secondaryText: "The chart as it is shown" },
                    ]}
                    onItemClick={({ detail }) => download(detail.id)}
                  >
                    Download
                  </ButtonDropdown>
                </SpaceBetween>
              }
            >
              {incident.errorCode ? `Calls with ${visible(incident.errorCode)}` : "Calls"}
            </Header>
          }
        >
          <div ref={chart}>
            <TimeChart
              label="Calls around the incident"
              points={points}
              step={step}
              series={[{ name: "Calls", tone: incident.errorCode ? "bad" : "normal" }]}
              zone={zone}
              height={220}
              marked={{ start, end }}
            />
          </div>
        </Container>
        <Container>
          <Tabs tabs={tabs} activeTabId={tab ?? "attributions"} onChange={({ detail }) => setTab(detail.activeTabId)} />
        </Container>
      </SpaceBetween>
      {marking && <Expected incident={incident} onClose={() => setMarking(false)} onDone={onChange} />}
    </ContentLayout>
  );
}

interface Attribution {
  attribute: string;
  insight: { value: string; average: number }[];
  baseline?: { value: string; average: number }[];
}

/** The sources of an incident's calls, from its record; records of types about principals have none. */
function attributionsOf({ record }: IncidentDetail): Attribution[] {
  const details = record.insightDetails as { insightContext?: { attributions?: Attribution[] } } | undefined;
  return details?.insightContext?.attributions ?? [];
}

const ATTRIBUTES: Record<string, string> = { userIdentityArn: "Identities", userAgent: "User agents", errorCode: "Error codes" };
const MAX_VALUES = 5;

function Attributions({ attributions }: { attributions: Attribution[] }): ReactNode {
  if (!attributions.length) return <Box color="text-body-secondary">The record has no attributions.</Box>;
  return (
    <SpaceBetween size="l">
      {attributions.map(({ attribute, insight, baseline }) => (
        <div key={attribute}>
          <Box variant="h3">{ATTRIBUTES[attribute] ?? visible(attribute)}</Box>
          <table className="plain-table">
            <thead>
              <tr>
                <th scope="col">Value</th>
                <th scope="col">Insight</th>
                <th scope="col">Usual</th>
              </tr>
            </thead>
            <tbody>
              {insight.slice(0, MAX_VALUES).map(({ value, average }) => (
                <tr key={value}>
                  <td className="wrap">
                    {value === "null" ? "none" : visible(value)}
                  </td>
                  <td className="numbers">{perMinute(average)}</td>
                  <td className="numbers">{perMinute(baseline?.find((usual) => usual.value === value)?.average ?? 0)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ))}
    </SpaceBetween>
  );
}

function Events({ incident }: { incident: IncidentDetail }): ReactNode {
  const expression = allOf(
    comparison("eventName", incident.eventName),
    comparison("eventSource", incident.eventSource),
    comparison("eventCategory", "Insight", false),
    incident.errorCode ? comparison("errorCode", incident.errorCode) : "",
  );
  const iso = (time: number): string => new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
  const since = iso(Date.parse(incident.start) - MINUTE);
  const until = iso((incident.end ? Date.parse(incident.end) : Date.now()) + MINUTE);
  const { data, error, loading, reload } = useCall((signal) => get<Page>("events/rows", { expression, since, until, categories: "all", limit: 50 }, signal), [
    expression,
    since,
    incident.end,
  ]);
  return (
    <SpaceBetween size="s">
      <Problem error={error} what="Events could not be loaded" onRetry={reload} />
      <EventList label="Events of the incident" items={data?.events ?? []} empty={loading ? "Loading events" : undefined} />
      <Button href={href("/events", { expression, since, until, categories: "all" })} onFollow={follow}>
        Open in Event history
      </Button>
    </SpaceBetween>
  );
}

function Expected({ incident, onClose, onDone }: { incident: IncidentDetail; onClose: () => void; onDone: () => void }): ReactNode {
  const [note, setNote] = useState("");
  const send = (): Promise<unknown> => post(`insights/${encodeURIComponent(incident.id)}/expected`, { note });
  return (
    <FormDialog action="Mark as expected" failed="The incident could not be marked" send={send} onCancel={onClose} onSent={() => (onDone(), onClose())}>
      <Box>
        For 90 days, {visible(incident.eventName)} of {visible(incident.eventSource)} is then reported only if there are more calls
        than in this incident.
      </Box>
      <FormField label="Note" description="Why it is expected">
        <Input value={note} placeholder="Load test" onChange={({ detail }) => setNote(detail.value.slice(0, 1000))} />
      </FormField>
    </FormDialog>
  );
}
