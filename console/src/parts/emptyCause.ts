/** The reason to show for an empty page. */

export interface Removal {
  /** The expression without it. */
  expression: string;
  label: string;
  /** Events that match without the removed part. */
  count: number;
}

/** A value that no event has, and the most similar existing value. */
export interface Likeness {
  label: string;
  value: string;
  nearest: string;
  events: number;
}

export interface Findings {
  /** Number of all recorded events. */
  events: number;
  /** Time of the newest event that matches outside the range. */
  newest: string | null;
  /** Events that match in other accounts and Regions. */
  elsewhere: number;
  removals: Removal[];
  nearest: Likeness | null;
}

export type Cause =
  | { kind: "never" }
  | { kind: "value"; likeness: Likeness }
  | { kind: "range"; newest: string }
  | { kind: "scope" }
  | { kind: "filter"; removal: Removal }
  | { kind: "nothing" };

export function causeOf({ events, newest, elsewhere, removals, nearest }: Findings): Cause {
  if (!events) return { kind: "never" };
  if (nearest) return { kind: "value", likeness: nearest };
  if (newest) return { kind: "range", newest };
  if (elsewhere) return { kind: "scope" };
  const best = removals.toSorted((a, b) => b.count - a.count)[0];
  return best?.count ? { kind: "filter", removal: best } : { kind: "nothing" };
}
