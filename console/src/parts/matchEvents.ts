import type { DetectionMatch } from "../api/types";
import { href } from "../app/router";
import { comparison } from "../filter/expression";

/** Maximum events of a match that an address names. */
const MAX_EVENTS = 50;

/** Returns the address of the events of a match: one event's page, or a search for several. */
export function eventsOf({ eventIds }: Pick<DetectionMatch, "eventIds">): string {
  const [first, ...more] = eventIds;
  if (first !== undefined && more.length === 0) return href(`/events/${encodeURIComponent(first)}`);
  const expression = eventIds.slice(-MAX_EVENTS).map((id) => comparison("eventID", id)).join(" OR ");
  return href("/events", { expression, last: "90d", categories: "all" });
}
