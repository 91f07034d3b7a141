import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Event, Page } from "../api/types";
import { type Call, useCall } from "../api/useCall";
import { follow, href, useRoute } from "../app/router";
import { EventList } from "../parts/EventList";
import { Problem } from "../parts/Problem";
import { visible } from "../text/visible";

const LIMIT = 200;
const INTERVAL = 1_000;
const MAX_ROWS = 1_000;
/** Milliseconds. An event has the start time of its call, but arrives after the call's end. */
const LONGEST_CALL = 60_000;

/** The calls since the creation of a trail, in order; the first row is its CreateTrail. */
export function since(events: Event[], trail: string | null): Event[] {
  const created = events.findIndex(
    ({ eventName, errorCode, resources }) =>
      eventName === "CreateTrail" && !errorCode && (trail === null || resources.some(({ name }) => name === trail || name.endsWith(`/${trail}`))),
  );
  return created < 0 ? [] : events.slice(0, created + 1).reverse();
}

/** Loads the newest events, or adds newer ones. */
async function withNewer(events: Event[], trail: string | null, signal: AbortSignal): Promise<Event[]> {
  const [newest, first] = [events[0], since(events, trail)[0]];
  const from = newest && new Date(Date.parse(newest.eventTime) - LONGEST_CALL).toISOString();
  const newer: Event[] = [];
  let cursor: string | null = null;
  do {
    const page: Page = await get("events/rows", { expression: "is:write", since: from, limit: LIMIT, cursor }, signal);
    newer.push(...page.events);
    cursor = page.next;
  } while (first && cursor);
  const ids = new Set(newer.map(({ eventId }) => eventId));
  return [...newer, ...events.filter(({ eventId }) => !ids.has(eventId))].slice(0, first ? undefined : LIMIT);
}

export default function Activity(): ReactNode {
  const { query } = useRoute();
  const trail = query.get("trail");
  const history: Call<Event[]> = useCall(
    (signal) => withNewer(history.data ?? [], trail, signal),
    [trail],
    INTERVAL,
    (events) => since(events, trail).length >= MAX_ROWS,
  );
  const rows = since(history.data ?? [], trail);
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
      <Problem error={history.error} what="The history could not be loaded" onRetry={history.reload} />
      <EventList
        label="API activity"
        items={rows.length < MAX_ROWS ? rows : [...rows, { key: "full", note: "Later calls are in Event history" }]}
        shown={["time", "method", "what", "name", "result"]}
        empty={history.data ? "Waiting for the first call" : "Loading events"}
      />
    </SpaceBetween>
  );
}
