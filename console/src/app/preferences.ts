/** The user's preferences in this browser: theme, zone, columns, keys. */

import { applyDensity, applyMode, Density, Mode } from "@cloudscape-design/global-styles";
import { useSyncExternalStore } from "react";
import { isZone, UTC } from "../text/time";

export interface Preferences {
  theme: "system" | "light" | "dark";
  density: "comfortable" | "compact";
  zone: string;
  /** Whether lists show the age of an event. */
  relative: boolean;
  keys: boolean;
  chart: boolean;
  facets: boolean;
  columns: string[] | null;
  pageSize: number;
  navigation: boolean;
}

const DEFAULTS: Preferences = {
  theme: "system",
  density: "comfortable",
  zone: UTC,
  relative: false,
  keys: true,
  chart: true,
  facets: true,
  columns: null,
  pageSize: 50,
  navigation: true,
};
const KEY = "opentrail.preferences";
const dark = window.matchMedia?.("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();
let current = load();

function load(): Preferences {
  try {
    const stored = { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
    return isZone(stored.zone) ? stored : { ...stored, zone: UTC };
  } catch {
    return DEFAULTS;
  }
}

export function applyPreferences(): void {
  const isDark = current.theme === "dark" || (current.theme === "system" && dark?.matches);
  applyMode(isDark ? Mode.Dark : Mode.Light);
  applyDensity(current.density === "compact" ? Density.Compact : Density.Comfortable);
  document.documentElement.style.colorScheme = isDark ? "dark" : "light";
}

dark?.addEventListener("change", applyPreferences);

export function setPreferences(change: Partial<Preferences>): void {
  current = { ...current, ...change };
  try {
    localStorage.setItem(KEY, JSON.stringify(current));
  } catch {
    // A browser without storage forgets preferences with the page.
  }
  applyPreferences();
  listeners.forEach((listener) => listener());
}

export function preferences(): Preferences {
  return current;
}

export function usePreferences(): Preferences {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => current,
  );
}
