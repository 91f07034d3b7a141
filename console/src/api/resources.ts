/** Resources by the beginning of their names; the server counts no resource names, so events are read. */

import { beginning } from "../filter/expression";
import { get } from "./client";
import type { Event, Page } from "./types";

export interface FoundResource {
  name: string;
  type: string | null;
  /** Its other names in the events, such as its ARN. */
  aliases: string[];
  /** The newest event that names it. */
  latest: Event;
}

const MAX_READ = 200;
/** The form of IAM's unique ids, such as AIDACKCEVSQ6C2EXAMPLE. */
const UNIQUE_ID = /^A[A-Z]{3}[A-Z0-9]{12,}$/;

export async function findResources(prefix: string, signal: AbortSignal): Promise<FoundResource[]> {
  const expression = prefix ? beginning("resourceName", prefix) : "is:write";
  const { events } = await get<Page>("events/rows", { expression, limit: MAX_READ }, signal);
  return resourcesIn(events).filter(({ name, aliases }) => [name, ...aliases].some((each) => each.startsWith(prefix)));
}

/** The resources in events, newest first, each once. */
export function resourcesIn(events: readonly Event[]): FoundResource[] {
  const named = events.flatMap(({ resources }) => resources);
  const names = new Set(named.map(({ type, name }) => `${type} ${name}`));
  const types = new Map(named.filter(({ type }) => type).map(({ type, name }) => [name, type]));
  const found = new Map<string, FoundResource>();
  for (const latest of events) {
    for (const { type: given, name } of latest.resources) {
      if (!name) continue;
      const type = given ?? types.get(name) ?? null;
      const main = mainName(type, name, latest, names);
      const key = `${type} ${main}`;
      const known = found.get(key) ?? { name: main, type, aliases: [], latest };
      if (name !== main && !known.aliases.includes(name)) known.aliases.push(name);
      found.set(key, known);
    }
  }
  return [...found.values()];
}

/** The name under which a resource is listed: that in its ARN if events have it, that beside its unique id. */
function mainName(type: string | null, name: string, event: Event, names: ReadonlySet<string>): string {
  if (name.startsWith("arn:")) {
    const last = name.slice(Math.max(name.lastIndexOf("/"), name.lastIndexOf(":")) + 1);
    return names.has(`${type} ${last}`) ? last : name;
  }
  if (!UNIQUE_ID.test(name)) return name;
  const beside = new Set(event.resources.filter((other) => other.type === type && other.name && other.name !== name && !other.name.startsWith("arn:")).map((other) => other.name));
  const [only, ...others] = beside;
  return only && others.length === 0 && !UNIQUE_ID.test(only) ? only : name;
}
