import { get, type Query } from "./client";
import type { ResourceList, ListedResource } from "./types";

const MAX_FOUND = 20;

/** The resources whose names begin with the `prefix` of a query, the newest first. */
export async function findResources(query: Query, signal: AbortSignal): Promise<ListedResource[]> {
  const { resources } = await get<ResourceList>("resources/list", { ...query, categories: "all", limit: MAX_FOUND }, signal);
  return resources;
}
