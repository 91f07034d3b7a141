/** Follows new events as server-sent events, over fetch, which has status codes and can resume by position. */

import { address, ApiError, lines, type Query, send } from "./client";
import type { Event } from "./types";

export type TailMessage = { kind: "events"; events: Event[] } | { kind: "gap"; skipped: number };

export interface Message {
  id: string | null;
  event: string;
  data: string;
}

/** Collects the lines of a stream into messages. */
export async function* messages(source: AsyncIterable<string>): AsyncGenerator<Message> {
  let message: Message = { id: null, event: "message", data: "" };
  for await (const line of source) {
    if (line === "") {
      if (message.data || message.id !== null) yield message;
      message = { id: null, event: "message", data: "" };
      continue;
    }
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (name === "id") message.id = value ?? "";
    else if (name === "event") message.event = value ?? "message";
    else if (name === "data") message.data += (message.data && "\n") + (value ?? "");
  }
}

const FIRST_WAIT = 500;
const MAX_WAIT = 10_000;

/** Yields messages until the signal aborts; reconnects and resumes after a break. */
export async function* tail(
  conditions: Query,
  signal: AbortSignal,
  from: { position: string | null },
  onState: (connected: boolean) => void,
): AsyncGenerator<TailMessage> {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (from.position !== null) headers["Last-Event-ID"] = from.position;
      const response = await send(address("events/tail", conditions), { headers, signal });
      onState(true);
      for await (const message of messages(lines(response))) {
        wait = FIRST_WAIT;
        if (message.id !== null) from.position = message.id;
        if (!message.data) continue;
        const data = JSON.parse(message.data);
        yield message.event === "gap"
          ? { kind: "gap", skipped: data.skipped }
          : { kind: "events", events: data.events };
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 401) throw error;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, MAX_WAIT);
  }
}
