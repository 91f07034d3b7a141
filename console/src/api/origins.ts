/** The original callers behind temporary credentials: one call for all sessions of a list. */

import { useRef } from "react";
import { get } from "./client";
import type { Event, Origin, Origins } from "./types";
import { useCall } from "./useCall";

/** Callers whose credentials another call issued. */
export const TEMPORARY = new Set(["AssumedRole", "FederatedUser"]);

/** Maximum events in one call of the server. */
const MAX_ASKED = 200;

/** The original caller of an event: undefined until it is known, null if it is not recorded. */
export type OriginOf = (event: Event) => Origin | null | undefined;

export function useOrigins(events: readonly Event[]): OriginOf {
  const known = useRef(new Map<string, Origin | null>()).current;
  const unknown = new Map<string, string>();
  for (const event of events) {
    const session = sessionOf(event);
    if (session !== null && !known.has(session)) unknown.set(session, event.eventId);
  }
  const asked = [...unknown].slice(0, MAX_ASKED);
  const ids = asked.map(([, id]) => id).join();
  useCall(
    ids
      ? async (signal) => {
          const { origins } = await get<Origins>("events/origins", { ids }, signal);
          for (const [session, id] of asked) known.set(session, origins[id] ?? null);
        }
      : null,
    [ids],
  );
  return (event) => known.get(sessionOf(event) ?? "");
}

/** The key of an event's temporary credentials; null: the credentials are not temporary. */
function sessionOf({ principalType, accessKeyId, eventId }: Event): string | null {
  return TEMPORARY.has(principalType ?? "") ? (accessKeyId ?? eventId) : null;
}
