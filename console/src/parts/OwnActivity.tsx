import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Page } from "../api/types";
import { useCall } from "../api/useCall";
import { follow, href } from "../app/router";
import { EventList } from "./EventList";
import { Problem } from "./Problem";

/** The newest events about a resource of CloudTrail, such as a trail. */
export function OwnActivity({ label, names }: { label: string; names: string[] }): ReactNode {
  const expression = `eventSource=cloudtrail.amazonaws.com AND (${names.map((name) => `resourceName=${name}`).join(" OR ")})`;
  const { data, error, reload } = useCall((signal) => get<Page>("events/rows", { expression, limit: 20 }, signal), [expression]);
  return (
    <SpaceBetween size="s">
      <Problem error={error} what="Events could not be loaded" onRetry={reload} />
      <EventList label={label} items={data?.events ?? []} empty={data ? undefined : "Loading events"} />
      <Box>
        <Button href={href("/events", { expression })} onFollow={follow}>
          Open in Event history
        </Button>
      </Box>
    </SpaceBetween>
  );
}
