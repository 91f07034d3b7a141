import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { Count, Page, TrailSummary } from "../api/types";
import { useCall } from "../api/useCall";
import { For } from "../app/For";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { number, spoken } from "../text/time";
import { visible } from "../text/visible";

/** The calls after which a trail no longer logs. */
const ENDINGS = "is:success eventSource=cloudtrail.amazonaws.com eventName IN (StopLogging, DeleteTrail)";

/** Warns that no trail is logging, and shows who stopped the last one and which events no bucket has. */
export function NoTrailLogs({ trails }: { trails: TrailSummary[] | null }): ReactNode {
  const { zone } = usePreferences();
  const none = trails !== null && !trails.some(({ logging }) => logging);
  const ended = useCall(
    none ? (signal) => get<Page>("events/rows", { expression: ENDINGS, categories: "all", limit: 1 }, signal).then(({ events }) => events[0] ?? null) : null,
    [none],
  ).data;
  const since = useCall(ended ? (signal) => get<Count>("events/count", { since: ended.eventTime, categories: "all" }, signal) : null, [ended?.eventId]).data;
  if (!none || !(trails.length || ended)) return null;
  const [only] = trails;
  return (
    <Alert
      type="error"
      header="No trail is logging"
      action={
        <SpaceBetween direction="horizontal" size="xs">
          {ended && (
            <Button href={href(`/events/${encodeURIComponent(ended.eventId)}`)} onFollow={follow}>
              Show the event
            </Button>
          )}
          <For role="operator">
            <Button href={only && trails.length === 1 ? href("/trails/view", { name: only.arn }) : href(trails.length ? "/trails" : "/turn-on")} onFollow={follow}>
              {trails.length ? "Start logging" : "Create a trail"}
            </Button>
          </For>
        </SpaceBetween>
      }
    >
      {ended && `${visible(spoken(ended, zone))}. `}
      {since ? `${number(since.value)}${since.relation === "eq" ? "" : " or more"} ${since.value === 1 ? "event" : "events"} since then are in event history only; no bucket has them.` : "Events are in event history only; no bucket gets them."}
    </Alert>
  );
}
