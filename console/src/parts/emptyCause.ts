/** Which of the reasons for an empty page is the one to name. */

import type { Filter } from "../filter/expression";

export interface Removal {
  filter: Filter;
  label: string;
  /** Events that match without the removed part. */
  count: number;
}

export interface Findings {
  /** Events that were ever recorded. */
  events: number;
  /** Time of the newest event that matches outside the range. */
  nearest: string | null;
  /** Events that match in other accounts and Regions. */
  elsewhere: number;
  removals: Removal[];
}

export type Cause =
  | { kind: "never" }
  | { kind: "range"; nearest: string }
  | { kind: "scope" }
  | { kind: "filter"; removal: Removal }
  | { kind: "nothing" };

export function causeOf({ events, nearest, elsewhere, removals }: Findings): Cause {
  if (!events) return { kind: "never" };
  if (nearest) return { kind: "range", nearest };
  if (elsewhere) return { kind: "scope" };
  const best = removals.toSorted((a, b) => b.count - a.count)[0];
  return best?.count ? { kind: "filter", removal: best } : { kind: "nothing" };
}
