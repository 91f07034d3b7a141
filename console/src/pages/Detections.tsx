import Box from "@cloudscape-design/components/box";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Detection, DetectionMatch } from "../api/types";
import { useCall } from "../api/useCall";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href, useQuery, useRoute } from "../app/router";
import { comparison } from "../filter/expression";
import { Problem } from "../parts/Problem";
import { number, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";

const STATES = { informational: "info", low: "info", medium: "warning", high: "error", critical: "error" } as const;
/** Maximum events of a match that an address names. */
const MAX_EVENTS = 50;

function Level({ level }: { level: string }): ReactNode {
  return <StatusIndicator type={STATES[level as keyof typeof STATES] ?? "info"}>{visible(level)}</StatusIndicator>;
}

/** Returns the address of the events of a match: one event's page, or a search for several. */
export function eventsOf({ eventIds }: Pick<DetectionMatch, "eventIds">): string {
  const [first, ...more] = eventIds;
  if (first !== undefined && more.length === 0) return href(`/events/${encodeURIComponent(first)}`);
  const expression = eventIds.slice(-MAX_EVENTS).map((id) => comparison("eventID", id)).join(" OR ");
  return href("/events", { expression, last: "90d", categories: "all" });
}

/** The enabled rules; below them the matches of all, or of the chosen one. */
export default function Detections(): ReactNode {
  const { density, zone } = usePreferences();
  const { query } = useRoute();
  const [name, choose] = useQuery("name");
  const narrow = useNarrow();
  const scope = { account: query.get("account"), region: query.get("region") };
  const rules = useCall((signal) => get<{ rules: Detection[] }>("detections", {}, signal), []);
  const matches = useCall((signal) => get<{ matches: DetectionMatch[] }>("detections/matches", { ...scope, name }, signal), [name, scope.account, scope.region]);
  const chosen = rules.data?.rules.find((rule) => rule.name === name);
  return (
    <SpaceBetween size="l">
      <Problem error={rules.error} what="Rules could not be loaded" onRetry={rules.reload} />
      <Table
        items={rules.data?.rules ?? []}
        wrapLines
        visibleColumns={narrow ? ["title", "matches"] : undefined}
        contentDensity={density}
        loading={rules.loading && !rules.data}
        loadingText="Loading rules"
        trackBy="name"
        ariaLabels={{ tableLabel: "Rules" }}
        header={
          <Header variant="h1" counter={rules.data ? `(${rules.data.rules.length})` : undefined} description="Sigma rules that are applied to new events.">
            Detections
          </Header>
        }
        columnDefinitions={[
          {
            id: "title",
            header: "Rule",
            isRowHeader: true,
            cell: (rule: Detection) => (
              <Link href={href("/detections", { name: rule.name })} onFollow={follow}>
                {visible(rule.title)}
              </Link>
            ),
          },
          { id: "level", header: "Level", cell: ({ level }) => <Level level={level} />, width: 150 },
          { id: "matches", header: "Matches", cell: ({ matches: count, complete }) => `${number(count)}${complete ? "" : " or more"}`, width: 140 },
          { id: "last", header: `Last match (${zoneName(zone)})`, cell: ({ lastMatch }) => <span className="numbers">{lastMatch ? stamp(lastMatch, zone) : "–"}</span>, width: 190 },
          { id: "author", header: "Author", cell: ({ author }) => show(author), width: 180 },
        ]}
        empty={
          <Box color="text-body-secondary">
            No rule is enabled. <Box variant="code">opentrail detections enable RULES</Box> enables Sigma rules.
          </Box>
        }
      />
      <Problem error={matches.error} what="Matches could not be loaded" onRetry={matches.reload} />
      <Table
        items={matches.data?.matches ?? []}
        wrapLines
        visibleColumns={narrow ? ["time", "events"] : undefined}
        contentDensity={density}
        loading={matches.loading && !matches.data}
        loadingText="Loading matches"
        trackBy="eventId"
        ariaLabels={{ tableLabel: "Matches" }}
        header={
          <Header
            variant="h2"
            description={chosen?.description ? visible(chosen.description) : undefined}
            actions={name === null ? undefined : <Link href={href("/detections")} onFollow={(event) => (event.preventDefault(), choose(null))}>Matches of all rules</Link>}
          >
            {name === null ? "Newest matches" : `Newest matches of ${visible(chosen?.title ?? name)}`}
          </Header>
        }
        columnDefinitions={[
          { id: "time", header: `Time (${zoneName(zone)})`, isRowHeader: true, cell: ({ eventTime }: DetectionMatch) => <span className="numbers">{stamp(eventTime, zone)}</span>, width: 190 },
          { id: "rule", header: "Rule", cell: ({ title }) => visible(title) },
          { id: "level", header: "Level", cell: ({ level }) => <Level level={level} />, width: 150 },
          { id: "by", header: "Principals", cell: ({ principals }) => show(principals.join(", ")) },
          { id: "place", header: "Account, Region", cell: ({ account, region }) => `${visible(account)}, ${visible(region)}`, width: 200 },
          {
            id: "events",
            header: "Events",
            cell: (match) => (
              <Link href={eventsOf(match)} onFollow={follow}>
                {match.eventIds.length === 1 ? visible(match.eventName) : `${number(match.eventIds.length)} events`}
              </Link>
            ),
            width: 200,
          },
        ]}
        empty={<Box color="text-body-secondary">No matches.</Box>}
      />
    </SpaceBetween>
  );
}
