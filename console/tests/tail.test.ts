import { expect, test } from "vitest";
import { lines } from "../src/api/client";
import { messages } from "../src/api/tail";
import type { Event } from "../src/api/types";
import { EMPTY_TAIL, MAX_ROWS, pause, receive, resume } from "../src/pages/tailBuffer";

const events = (...ids: number[]) => ({ kind: "events" as const, events: ids.map((id) => ({ eventId: `e${id}` }) as Event) });
const keys = (rows: { key: string }[]): string[] => rows.map(({ key }) => key);

test("new events come first, each once", () => {
  const state = receive(receive(EMPTY_TAIL, [events(1, 2)]), [events(2, 3)]);
  expect(keys(state.rows)).toEqual(["e3", "e2", "e1"]);
});

test("a pause holds what arrives and gives it back", () => {
  const paused = receive(pause(receive(EMPTY_TAIL, [events(1)])), [events(2, 3)]);
  expect([keys(paused.rows), keys(paused.held)]).toEqual([["e1"], ["e3", "e2"]]);
  expect(keys(resume(paused).rows)).toEqual(["e3", "e2", "e1"]);
});

test("a gap is a row in its place", () => {
  const { rows } = receive(EMPTY_TAIL, [events(1), { kind: "gap", skipped: 214 }, events(2)]);
  expect(rows.map((row) => (row.kind === "gap" ? row.skipped : row.key))).toEqual(["e2", 214, "e1"]);
});

test("at most 2,000 rows are held, and the rest is counted", () => {
  const many = Array.from({ length: MAX_ROWS + 500 }, (_, index) => index);
  let state = receive(EMPTY_TAIL, [events(...many)]);
  state = receive(state, [events(10_001)]);
  expect(state.rows).toHaveLength(MAX_ROWS);
  expect(state.rows.at(-1)).toMatchObject({ kind: "gap", skipped: 502 });
});

test("a stream is read however it is cut into pieces", async () => {
  const text = 'id: 5\ndata: {"events":\ndata: []}\n\n: heartbeat\n\nevent: gap\ndata: {"skipped":3}\n\n';
  for (const size of [1, 3, 7, text.length]) {
    const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, index) => text.slice(index * size, (index + 1) * size));
    const body = new ReadableStream({
      start(controller) {
        for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
        controller.close();
      },
    });
    const found = [];
    for await (const message of messages(lines(new Response(body)))) found.push(message);
    expect(found).toEqual([
      { id: "5", event: "message", data: '{"events":\n[]}' },
      { id: null, event: "gap", data: '{"skipped":3}' },
    ]);
  }
});
