import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { type ReactNode, useMemo, useRef } from "react";
import { get } from "../api/client";
import type { Count, Health, Histogram, Incident, Page, TrailList, TrailSummary, ValueCount } from "../api/types";
import { type Call, useCall } from "../api/useCall";
import { For } from "../app/For";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate, useRoute } from "../app/router";
import { useMay } from "../app/session";
import { sinceOf } from "../filter/conditions";
import { comparison } from "../filter/expression";
import { ValueList } from "../parts/ValueList";
import { EventList } from "../parts/EventList";
import { FirstEvent } from "../parts/FirstEvent";
import { OpenMatches } from "../parts/OpenMatches";
import { NoTrailLogs } from "../parts/NoTrailLogs";
import { Problem } from "../parts/Problem";
import { OUTCOMES, TimeChart } from "../parts/TimeChart";
import { TrailStatus } from "../parts/TrailStatus";
import { Findings } from "../parts/Verify";
import { ago, number } from "../text/time";
import { visible } from "../text/visible";

const HEALTH_INTERVAL = 2_000;
const REFRESH_INTERVAL = 30_000;

export default function Dashboard(): ReactNode {
  const { query } = useRoute();
  const scope = { account: query.get("account"), region: query.get("region") };
  const health = useCall((signal) => get<Health>("health", {}, signal), [], HEALTH_INTERVAL);
  const trails = useCall(useMay("auditor") ? (signal) => get<TrailList>("trails", {}, signal).then(({ trails }) => trails) : null, [], REFRESH_INTERVAL);
  const key = JSON.stringify(scope);
  if (health.data && health.data.events === 0) {
    return (
      <SpaceBetween size="l">
        <Header variant="h1">Dashboard</Header>
        <FirstEvent />
      </SpaceBetween>
    );
  }
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        actions={
          <Button variant="primary" href={href("/events")} onFollow={follow}>
            Search events
          </Button>
        }
      >
        Dashboard
      </Header>
      <BrokenProofs trails={trails.data ?? []} />
      <NoTrailLogs trails={trails.data} />
      <Degradations health={health.data} />
      <TrustedNetworks networks={health.data?.insecureTrustedNetworks ?? []} />
      <Problem error={health.error} what="The server's health could not be loaded" onRetry={health.reload} />
      <ColumnLayout columns={2} minColumnWidth={400}>
        <Recording health={health.data} />
        <For role="auditor">
          <Trails call={trails} />
        </For>
      </ColumnLayout>
      <LastDay key={`day ${key}`} scope={scope} />
      <ColumnLayout columns={2} minColumnWidth={400}>
        <OpenMatches scope={scope} />
        <Insights scope={scope} />
      </ColumnLayout>
      <Top scope={scope} />
      <Latest scope={scope} position={health.data?.visible ?? 0} />
    </SpaceBetween>
  );
}

type Scope = { account: string | null; region: string | null };

/** Log files that changed after delivery, the most important message here. */
function BrokenProofs({ trails }: { trails: TrailSummary[] }): ReactNode {
  return trails.map(
    ({ arn, name, verified }) =>
      verified &&
      verified.findings.length > 0 && (
        <Alert
          key={arn}
          type="error"
          header={`⚠ Broken proof: files of trail ${visible(name)} changed after delivery`}
          action={
            <Button href={href("/integrity")} onFollow={follow}>
              Integrity
            </Button>
          }
        >
          <Findings verified={verified} />
        </Alert>
      ),
  );
}

function Degradations({ health }: { health: Health | null }): ReactNode {
  if (!health || health.status === "ok") return null;
  return (
    <Alert type={health.status === "failing" ? "error" : "warning"} header={health.status === "failing" ? "Recording fails" : "Something needs attention"}>
      {health.degradations.map((text) => (
        <div key={text}>{visible(text)}</div>
      ))}
    </Alert>
  );
}

function TrustedNetworks({ networks }: { networks: string[] }): ReactNode {
  if (networks.length === 0) return null;
  return (
    <Alert type="warning" header="Callers are not verified">
      Hosts in {networks.join(", ")} may call as any user, without TLS: the server runs with <code>--insecure-trusted-networks</code>.
    </Alert>
  );
}

function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

function Recording({ health }: { health: Health | null }): ReactNode {
  const behind = health ? Math.max(health.recorded - health.visible, 0) : 0;
  const status = { ok: "success", degraded: "warning", failing: "error" } as const;
  return (
    <Container header={<Header variant="h2">Recording</Header>} fitHeight>
      <KeyValuePairs
        columns={2}
        items={[
          {
            label: "Status",
            value: health ? (
              <StatusIndicator type={status[health.status]}>{{ ok: "Healthy", degraded: "Degraded", failing: "Failing" }[health.status]}</StatusIndicator>
            ) : (
              <StatusIndicator type="loading">Loading</StatusIndicator>
            ),
          },
          { label: "Events in history", value: health ? number(health.events) : "–" },
          {
            label: "From call to history",
            value: health?.freshness.p50Ms != null ? `${milliseconds(health.freshness.p50Ms)} median, ${milliseconds(health.freshness.p99Ms)} p99` : "no calls in the last minute",
          },
          { label: "Recorded, not yet searchable", value: number(behind) },
        ]}
      />
    </Container>
  );
}

function Trails({ call: { data, error, reload } }: { call: Call<TrailSummary[]> }): ReactNode {
  const broken = (data ?? []).toSorted((a, b) => rank(a) - rank(b)).slice(0, 4);
  return (
    <Container
      fitHeight
      header={
        <Header variant="h2" counter={data ? `(${data.length})` : undefined} actions={data?.length === 0 && <For role="operator"><Button href={href("/turn-on")} onFollow={follow}>Get Started Now</Button></For>}>
          Trails
        </Header>
      }
    >
      <Problem error={error} what="Trails could not be loaded" onRetry={reload} />
      {data && !data.length && <Box color="text-body-secondary">No trail yet. Event history records all calls; a trail delivers them to a bucket.</Box>}
      <SpaceBetween size="xs">
        {broken.map((trail) => (
          <div key={trail.arn} className="toolbar">
            <span className="grow">
              <Link href={href("/trails/view", { name: trail.arn })} onFollow={follow}>
                {visible(trail.name)}
              </Link>{" "}
              <Box variant="span" color="text-body-secondary">
                {trail.latestDelivery ? `delivered ${ago(trail.latestDelivery)}` : "nothing delivered yet"}
              </Box>
            </span>
            <TrailStatus trail={trail} />
          </div>
        ))}
      </SpaceBetween>
    </Container>
  );
}

function rank({ status }: TrailSummary): number {
  return ["Failing", "Off", "Logging"].indexOf(status);
}

function LastDay({ scope }: { scope: Scope }): ReactNode {
  const { zone } = usePreferences();
  const query = () => ({ ...scope, since: sinceOf("1d", Date.now()) });
  const { data, error, reload } = useCall((signal) => get<Histogram>("events/histogram", { ...query(), buckets: 96 }, signal), [], REFRESH_INTERVAL);
  const writes = useCall((signal) => get<Count>("events/count", { ...query(), expression: "is:write" }, signal), [], REFRESH_INTERVAL);
  const points = useMemo(() => data?.buckets.map(({ time, ok, failed }) => ({ time: Date.parse(time), values: [ok, failed] })) ?? [], [data]);
  const total = points.reduce((all, { values }) => all + (values[0] ?? 0) + (values[1] ?? 0), 0);
  return (
    <Container
      header={
        <Header variant="h2" description={data && writes.data ? `${number(total)} ${total === 1 ? "call" : "calls"}, ${number(writes.data.value)} of them changed something` : "…"}>
          Last day
        </Header>
      }
    >
      <Problem error={error} what="The chart could not be loaded" onRetry={reload} />
      <TimeChart
        label="Calls of the last day"
        points={points}
        step={(data?.seconds ?? 900) * 1000}
        series={OUTCOMES}
        zone={zone}
        onSelect={(start, end) =>
          navigate(href("/events", { expression: "", since: new Date(start).toISOString(), until: new Date(end - 1000).toISOString() }))
        }
      />
    </Container>
  );
}

function Insights({ scope }: { scope: Scope }): ReactNode {
  const { data, error, reload } = useCall(
    (signal) => get<{ incidents: Incident[] }>("insights", { ...scope, since: sinceOf("30d", Date.now()) }, signal),
    [scope.account, scope.region],
    REFRESH_INTERVAL,
  );
  const isOpen = ({ end, expected }: Incident): boolean => end === null && expected === null;
  const newest = (data?.incidents ?? []).toSorted((a, b) => Number(isOpen(b)) - Number(isOpen(a))).slice(0, 5);
  return (
    <Container fitHeight header={<Header variant="h2" actions={<Button href={href("/insights")} onFollow={follow}>All insights</Button>}>Unusual activity</Header>}>
      <Problem error={error} what="Insights could not be loaded" onRetry={reload} />
      {data && !newest.length && <Box color="text-body-secondary">Nothing unusual in the last 30 days.</Box>}
      <SpaceBetween size="s">
        {newest.map((incident) => (
          <div key={incident.id} className="wrap">
            {isOpen(incident) && <StatusIndicator type="in-progress">Open</StatusIndicator>}{" "}
            <Link href={href(`/insights/${incident.id}`)} onFollow={follow}>
              {visible(incident.sentence)}
            </Link>
            <Box color="text-body-secondary" fontSize="body-s">
              {ago(incident.start)}
              {incident.end ? "" : ", still going on"}
              {incident.expected !== null ? ", expected" : ""}
            </Box>
          </div>
        ))}
      </SpaceBetween>
    </Container>
  );
}

function Top({ scope }: { scope: Scope }): ReactNode {
  const { data, error, reload } = useCall(
    (signal) => get<{ facets: Record<string, ValueCount[]> }>("events/facets", { ...scope, since: sinceOf("1d", Date.now()), fields: "username,eventName" }, signal),
    [scope.account, scope.region],
    REFRESH_INTERVAL,
  );
  const open = (field: string) => (value: string) => navigate(href("/events", { expression: comparison(field, value), last: "1d" }));
  return (
    <Container fitHeight header={<Header variant="h2">Most calls of the last day</Header>}>
      <Problem error={error} what="The values could not be counted" onRetry={reload} />
      <ColumnLayout columns={2} minColumnWidth={180}>
        {(["username", "eventName"] as const).map((field) => (
          <div key={field}>
            <Box variant="h3">{field === "username" ? "By user" : "By event name"}</Box>
            {data && <ValueList values={(data.facets[field] ?? []).slice(0, 5)} onPick={open(field)} />}
          </div>
        ))}
      </ColumnLayout>
    </Container>
  );
}

/** `position` grows with each searchable event, which makes earlier answers outdated. */
function Latest({ scope, position }: { scope: Scope; position: number }): ReactNode {
  const asked = useRef(position);
  const { data, error, reload } = useCall(
    (signal) => {
      asked.current = position;
      return get<Page>("events/rows", { ...scope, expression: "is:write", limit: 10 }, signal);
    },
    [scope.account, scope.region],
    position === asked.current ? null : 0,
  );
  return (
    <>
      <Problem error={error} what="Events could not be loaded" onRetry={reload} />
      <Container
        header={
          <Header variant="h2" actions={<Button href={href("/live")} onFollow={follow}>Live</Button>}>
            Latest changes
          </Header>
        }
      >
        <EventList label="Latest changes" items={data?.events ?? []} empty={data ? undefined : "Loading events"} />
      </Container>
    </>
  );
}
