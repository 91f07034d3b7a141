import { get } from "./client";
import type { ResourceList, ListedResource } from "./types";

/** The resources whose names begin with a text, the newest first. */
export async function findResources(prefix: string, signal: AbortSignal): Promise<ListedResource[]> {
  const { resources } = await get<ResourceList>("resources/list", { prefix, categories: "all" }, signal);
  return resources;
}
