/** The rows of the Live page: a bounded list that can be paused, with a row where events were skipped. */

import type { TailMessage } from "../api/tail";
import type { Event } from "../api/types";

export const MAX_ROWS = 2_000;

export type Row = { kind: "event"; key: string; event: Event } | { kind: "gap"; key: string; skipped: number };

export interface TailState {
  paused: boolean;
  /** Newest first. */
  rows: Row[];
  /** Events that arrived during the pause, newest first. */
  held: Row[];
}

export const EMPTY_TAIL: TailState = { paused: false, rows: [], held: [] };

let gaps = 0;

export function receive(state: TailState, messages: TailMessage[]): TailState {
  const known = new Set([...state.rows, ...state.held].map(({ key }) => key));
  const rows: Row[] = [];
  for (const message of messages) {
    if (message.kind === "gap") {
      gaps += 1;
      rows.unshift({ kind: "gap", key: `gap ${gaps}`, skipped: message.skipped });
      continue;
    }
    for (const event of message.events) {
      if (known.has(event.eventId)) continue;
      known.add(event.eventId);
      rows.unshift({ kind: "event", key: event.eventId, event });
    }
  }
  if (state.paused) return { ...state, held: bounded([...rows, ...state.held]) };
  return { ...state, rows: bounded([...rows, ...state.rows]) };
}

export function pause(state: TailState): TailState {
  return { ...state, paused: true };
}

export function resume(state: TailState): TailState {
  return { paused: false, rows: bounded([...state.held, ...state.rows]), held: [] };
}

/** Keeps the newest rows and counts the dropped ones. */
function bounded(rows: Row[]): Row[] {
  if (rows.length <= MAX_ROWS) return rows;
  const rest = rows.slice(MAX_ROWS - 1);
  const skipped = rest.reduce((total, row) => total + (row.kind === "gap" ? row.skipped : 1), 0);
  return [...rows.slice(0, MAX_ROWS - 1), { kind: "gap", key: "dropped", skipped }];
}
