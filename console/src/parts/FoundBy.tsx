import Box from "@cloudscape-design/components/box";
import Link from "@cloudscape-design/components/link";
import type { ReactNode } from "react";
import { get } from "../api/client";
import type { DetectionMatch } from "../api/types";
import { useCall } from "../api/useCall";
import { follow, href } from "../app/router";
import { number } from "../text/time";
import { visible } from "../text/visible";
import { eventsOf } from "./matchEvents";

/** The rules that matched an event, with links to their matches; empty without matches. */
export function FoundBy({ eventId }: { eventId: string }): ReactNode {
  const { data } = useCall((signal) => get<{ matches: DetectionMatch[] }>("detections/matches", { event: eventId }, signal), [eventId]);
  return data?.matches.map((match) => {
    const others = match.eventIds.length - 1;
    return (
      <Box key={match.eventId}>
        Found by rule{" "}
        <Link href={href("/detections", { name: match.rule })} onFollow={follow}>
          {visible(match.title)}
        </Link>
        {others > 0 && (
          <>
            , matched with{" "}
            <Link href={eventsOf(match)} onFollow={follow}>
              {others === 1 ? "1 other event" : `${number(others)} other events`}
            </Link>
          </>
        )}
        .
      </Box>
    );
  });
}
