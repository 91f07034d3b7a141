/** Resources by the beginning of their names; the server counts no resource names, so events are read. */

import { literal, toExpression } from "../filter/expression";
import { get } from "./client";
import type { Event, Page } from "./types";

export interface FoundResource {
  name: string;
  type: string | null;
  /** The newest event that names it. */
  latest: Event;
}

const MAX_READ = 200;

export async function findResources(prefix: string, signal: AbortSignal): Promise<FoundResource[]> {
  const expression = prefix
    ? toExpression({ operation: "and", tokens: [{ propertyKey: "resourceName", operator: "=", value: `${literal(prefix)}*` }] })
    : "is:write";
  const { events } = await get<Page>("events/rows", { expression, limit: MAX_READ }, signal);
  const found = new Map<string, FoundResource>();
  for (const event of events) {
    for (const { name, type } of event.resources) {
      if (!name || !name.startsWith(prefix)) continue;
      const known = found.get(name);
      if (!known) found.set(name, { name, type, latest: event });
      else known.type ??= type;
    }
  }
  return [...found.values()];
}
