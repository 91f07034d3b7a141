import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { TrailList, TrailSummary } from "../api/types";
import { useCall } from "../api/useCall";
import { For } from "../app/For";
import { useNarrow } from "../app/narrow";
import { follow, href } from "../app/router";
import { NoTrailLogs } from "../parts/NoTrailLogs";
import { Problem } from "../parts/Problem";
import { TrailStatus } from "../parts/TrailStatus";
import { ago } from "../text/time";
import { visible } from "../text/visible";

export default function Trails(): ReactNode {
  const { data, error, loading, reload } = useCall((signal) => get<TrailList>("trails", {}, signal).then(({ trails }) => trails), [], 10_000);
  const narrow = useNarrow();
  const column = (id: string, header: string, cell: (trail: TrailSummary) => ReactNode, width: number) => ({ id, header, cell, ...(narrow ? { minWidth: Math.min(width, 110) } : { width, minWidth: Math.min(width, 200) }) });
  return (
    <SpaceBetween size="m">
      <NoTrailLogs trails={data} />
      <Problem error={error} what="Trails could not be loaded" onRetry={reload} />
      <Table
        items={data ?? []}
        variant="full-page"
        wrapLines
        visibleColumns={narrow ? ["name", "status", "delivery"] : undefined}
        trackBy="arn"
        loading={loading && !data}
        loadingText="Loading trails"
        ariaLabels={{ tableLabel: "Trails" }}
        header={
          <Header
            variant="h1"
            counter={data ? `(${data.length})` : undefined}
            description="Trails deliver log files of events to S3 buckets."
            actions={
              <For role="operator">
                <SpaceBetween direction="horizontal" size="xs">
                  <Button href={href("/trails/create")} onFollow={follow}>
                    Create trail
                  </Button>
                  {data?.length === 0 && (
                    <Button variant="primary" href={href("/turn-on")} onFollow={follow}>
                      Get Started Now
                    </Button>
                  )}
                </SpaceBetween>
              </For>
            }
          >
            Trails
          </Header>
        }
        columnDefinitions={[
          column("name", "Name", ({ name, arn }) => (
            <Link href={href("/trails/view", { name: arn })} onFollow={follow}>
              {visible(name)}
            </Link>
          ), 200),
          column("status", "Status", (trail) => <TrailStatus trail={trail} long />, 130),
          column("bucket", "S3 bucket", ({ bucket }) => visible(bucket), 200),
          column("region", "Home Region", ({ homeRegion, multiRegion }) => `${visible(homeRegion)}${multiRegion ? ", all Regions" : ""}`, 210),
          column("delivery", "Last log file", ({ latestDelivery }) => ago(latestDelivery), 130),
          column("digest", "Last digest", ({ latestDigest, validation }) => (validation ? ago(latestDigest) : "validation is off"), 150),
        ]}
        empty={
          <SpaceBetween size="s">
            <Box>No trail yet. Event history has all calls; a trail delivers them to a bucket, with signed digests.</Box>
            <For role="operator">
              <Button href={href("/turn-on")} onFollow={follow}>
                Get Started Now
              </Button>
            </For>
          </SpaceBetween>
        }
      />
    </SpaceBetween>
  );
}
