import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { Event, Page } from "../api/types";
import { useCall, useInterval } from "../api/useCall";
import { follow, href, useRoute } from "../app/router";
import { EventList } from "../parts/EventList";
import { Problem } from "../parts/Problem";
import { visible } from "../text/visible";

const LIMIT = 200;
const EVERY = 1_000;

/** The calls since a trail was made, in their order: the first row is its CreateTrail. */
export function since(events: Event[], trail: string | null): Event[] {
  const created = events.findIndex(
    ({ eventName, errorCode, resources }) =>
      eventName === "CreateTrail" && !errorCode && (trail === null || resources.some(({ name }) => name === trail || name.endsWith(`/${trail}`))),
  );
  return created < 0 ? [] : events.slice(0, created + 1).reverse();
}

export default function Activity(): ReactNode {
  const { query } = useRoute();
  const trail = query.get("trail");
  const { data, error, reload } = useCall((signal) => get<Page>("events/rows", { expression: "is:write", limit: LIMIT }, signal), [trail]);
  const [seen, setSeen] = useState<Event[]>([]);
  useInterval(reload, EVERY);
  const found = since(data?.events ?? [], trail);
  // Once more calls have followed than a page holds, the first ones are only here.
  const known = new Set(found.map(({ eventId }) => eventId));
  const rows = found.length ? found : [...seen, ...[...(data?.events ?? [])].reverse().filter(({ eventId }) => !seen.some((event) => event.eventId === eventId))];
  if (found.length && (seen.length !== found.length || seen.some(({ eventId }) => !known.has(eventId)))) setSeen(found);
  return (
    <SpaceBetween size="m">
      <Header
        variant="h1"
        description="Calls since the trail was created, as they happen; the newest is at the end. Read-only calls are left out."
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            {trail && (
              <Button href={href("/trails/view", { name: trail })} onFollow={follow}>
                Trail
              </Button>
            )}
            <Button href={href("/events")} onFollow={follow} variant="primary">
              Event history
            </Button>
          </SpaceBetween>
        }
      >
        API activity history
      </Header>
      {trail && (
        <Alert type="success">
          CloudTrail is on. Trail {visible(trail)} delivers log files to its bucket every few minutes.
        </Alert>
      )}
      <Problem error={error} what="The history could not be loaded" onRetry={reload} />
      <EventList
        label="API activity"
        items={found.length ? found : seen.length ? rows : []}
        shown={["time", "method", "what", "name", "result"]}
        empty={data ? "Waiting for the first call" : "Loading events"}
      />
    </SpaceBetween>
  );
}
