/** Addresses: paths under /console/, with the whole state of a page in the query. */

import { useCallback, useSyncExternalStore } from "react";

export const BASE = "/console";

export interface Route {
  path: string;
  query: URLSearchParams;
}

type Change = Record<string, string | null>;

const listeners = new Set<() => void>();
let current = read();

function read(): Route {
  const path = window.location.pathname;
  return {
    path: path.startsWith(BASE) ? path.slice(BASE.length) || "/" : path,
    query: new URLSearchParams(window.location.search),
  };
}

export function currentPath(): string {
  return current.path;
}

export function currentQuery(): URLSearchParams {
  return current.query;
}

function changed(): void {
  current = read();
  listeners.forEach((listener) => listener());
}

window.addEventListener("popstate", changed);

export function href(path: string, query: Change = {}): string {
  const parts = new URLSearchParams(Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== null));
  const text = parts.toString();
  return BASE + path + (text && `?${text}`);
}

export function navigate(address: string, { replace = false } = {}): void {
  if (address === window.location.pathname + window.location.search) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", address);
  changed();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, () => current);
}

/** Changes parts of the query; null removes one. Other parts remain. */
export function changeQuery(change: Change, options?: { replace?: boolean }): void {
  const query = new URLSearchParams(current.query);
  for (const [name, value] of Object.entries(change)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  navigate(window.location.pathname + (text && `?${text}`), options);
}

export function useQuery(name: string): [string | null, (value: string | null) => void] {
  const { query } = useRoute();
  const set = useCallback((value: string | null) => changeQuery({ [name]: value }), [name]);
  return [query.get(name), set];
}

interface FollowEvent {
  detail: { href?: string; external?: boolean };
  preventDefault: () => void;
}

/** For `onFollow` of links: stays within the page. */
export function follow(event: FollowEvent): void {
  const { href: target, external } = event.detail;
  if (external || !target?.startsWith(`${BASE}/`)) return;
  event.preventDefault();
  navigate(target);
}
