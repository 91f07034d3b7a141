import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { StoreList, StoreSummary } from "../api/types";
import { useCall } from "../api/useCall";
import { For } from "../app/For";
import { useNarrow } from "../app/narrow";
import { follow, href } from "../app/router";
import { Problem } from "../parts/Problem";
import { StoreStatus } from "../parts/StoreStatus";
import { number } from "../text/time";
import { visible } from "../text/visible";

export default function Stores(): ReactNode {
  const { data, error, loading, reload } = useCall((signal) => get<StoreList>("stores", {}, signal).then(({ stores }) => stores), [], 10_000);
  const narrow = useNarrow();
  const column = (id: string, header: string, cell: (store: StoreSummary) => ReactNode, width: number) => ({ id, header, cell, ...(narrow ? { minWidth: Math.min(width, 110) } : { width, minWidth: Math.min(width, 200) }) });
  const create = (
    <For role="operator">
      <Button href={href("/stores/create")} onFollow={follow}>
        Create event data store
      </Button>
    </For>
  );
  if (error?.code === "UnsupportedOperationException") {
    return (
      <SpaceBetween size="m">
        <Header variant="h1">Event data stores</Header>
        <Alert type="info" header="This server has no event data stores">
          {visible(error.message)}.
        </Alert>
      </SpaceBetween>
    );
  }
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="Event data stores could not be loaded" onRetry={reload} />
      <Table
        items={data ?? []}
        variant="full-page"
        wrapLines
        visibleColumns={narrow ? ["name", "status", "retention"] : undefined}
        trackBy="arn"
        loading={loading && !data}
        loadingText="Loading event data stores"
        ariaLabels={{ tableLabel: "Event data stores" }}
        header={
          <Header variant="h1" counter={data ? `(${data.length})` : undefined} description="Event data stores keep selected events for SQL queries." actions={create}>
            Event data stores
          </Header>
        }
        columnDefinitions={[
          column("name", "Name", ({ name, arn }) => (
            <Link href={href("/stores/view", { arn })} onFollow={follow}>
              {visible(name)}
            </Link>
          ), 200),
          column("status", "Status", (store) => <StoreStatus store={store} />, 150),
          column("events", "Events", ({ categories }) => visible(categories.join(", ")), 200),
          column("retention", "Retention", ({ retentionDays }) => `${number(retentionDays)} days`, 120),
          column("regions", "Region", ({ region, multiRegion }) => `${visible(region)}${multiRegion ? ", all Regions" : ""}`, 200),
          column("protection", "Termination protection", ({ terminationProtection }) => (terminationProtection ? "on" : "off"), 120),
        ]}
        empty={
          <SpaceBetween size="s">
            <Box>No event data store yet. A store keeps the events that you select for up to ten years, and makes SQL queries on them faster.</Box>
            {create}
          </SpaceBetween>
        }
      />
    </SpaceBetween>
  );
}
