import { useSyncExternalStore } from "react";

const PHONE = 600;
const WIDE = 1_280;

function subscribe(listener: () => void): () => void {
  window.addEventListener("resize", listener);
  return () => window.removeEventListener("resize", listener);
}

/** Whether the window is as narrow as a phone. */
export function useNarrow(): boolean {
  return useSyncExternalStore(subscribe, () => window.innerWidth < PHONE);
}

/** Whether values fit next to a list. */
export function useWide(): boolean {
  return useSyncExternalStore(subscribe, () => window.innerWidth >= WIDE);
}
