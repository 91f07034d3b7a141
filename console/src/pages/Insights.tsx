import Box from "@cloudscape-design/components/box";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Incident } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { useNarrow } from "../app/narrow";
import { changeQuery, follow, href, useRoute } from "../app/router";
import { sinceOf } from "../filter/conditions";
import { Problem } from "../parts/Problem";
import { perMinute, rate, span, stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";

const LASTS = [
  ["1d", "Last day"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["90d", "Last 90 days"],
] as const;

export function typeName(type: string): string {
  return { ApiCallRateInsight: "API call rate", ApiErrorRateInsight: "API error rate" }[type] ?? visible(type);
}

export function change({ baseline, average }: Pick<Incident, "baseline" | "average">): string {
  if (!baseline) return "new";
  const factor = average / baseline;
  return factor >= 1 ? `× ${rate(factor)}` : `${rate((factor - 1) * 100)} %`;
}

export function Status({ incident }: { incident: Pick<Incident, "expected" | "end"> }): ReactNode {
  if (incident.expected !== null) return <StatusIndicator type="info">Expected</StatusIndicator>;
  return incident.end ? <StatusIndicator type="warning">New</StatusIndicator> : <StatusIndicator type="in-progress">Going on</StatusIndicator>;
}

export default function Insights(): ReactNode {
  const { zone, density } = usePreferences();
  const { query } = useRoute();
  const last = LASTS.find(([id]) => id === query.get("last"))?.[0] ?? "90d";
  const scope = { account: query.get("account"), region: query.get("region") };
  const { data, error, loading, reload } = useCall(
    (signal) => get<{ incidents: Incident[] }>("insights", { ...scope, since: sinceOf(last, Date.now()) }, signal),
    [last, scope.account, scope.region],
  );
  const incidents = data?.incidents ?? [];
  const narrow = useNarrow();
  const column = (id: string, header: string, cell: (incident: Incident) => ReactNode, width: number) => ({ id, header, cell, ...(narrow ? { minWidth: Math.min(width, 120) } : { width, minWidth: Math.min(width, 200) }) });
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="Insights could not be loaded" onRetry={reload} />
      <Table
        items={incidents}
        variant="full-page"
        wrapLines
        visibleColumns={narrow ? ["what", "status"] : undefined}
        contentDensity={density}
        loading={loading && !data}
        loadingText="Loading insights"
        trackBy="id"
        ariaLabels={{ tableLabel: "Insights" }}
        header={
          <Header
            variant="h1"
            counter={data ? `(${incidents.length})` : undefined}
            description="APIs that were called, or failed, far more or less often than usual."
            actions={
              <ButtonDropdown
                items={LASTS.map(([id, text]) => ({ id, text }))}
                onItemClick={({ detail }) => changeQuery({ last: detail.id })}
              >
                {LASTS.find(([id]) => id === last)?.[1]}
              </ButtonDropdown>
            }
          >
            Insights
          </Header>
        }
        columnDefinitions={[
          column("what", "What happened", (incident) => (
            <>
              <Link href={href(`/insights/${incident.id}`)} onFollow={follow}>
                {visible(incident.sentence)}
              </Link>
              {narrow && (
                <Box variant="small" display="block">
                  {stamp(incident.start, zone)}
                </Box>
              )}
            </>
          ), 360),
          column("type", "Type", ({ insightType, errorCode }) => typeName(insightType) + (errorCode ? ` (${visible(errorCode)})` : ""), 150),
          column("start", `Start (${zoneName(zone)})`, ({ start }) => <span className="numbers">{stamp(start, zone)}</span>, 120),
          column("length", "Duration", ({ start, end }) => (end ? span((Date.parse(end) - Date.parse(start)) / 1000) : "going on"), 105),
          column("baseline", "Usual", ({ baseline }) => perMinute(baseline), 120),
          column("insight", "Insight", ({ average }) => perMinute(average), 120),
          column("change", "Change", (incident) => change(incident), 95),
          column("status", "Status", (incident) => <Status incident={incident} />, 120),
        ]}
        empty={
          <Box color="text-body-secondary">
            Nothing unusual in this time. A baseline is learned from the events of the last 28 days.
          </Box>
        }
      />
    </SpaceBetween>
  );
}
