import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import TurnOn from "../src/pages/TurnOn";
import { bucketFor, errorsOf, request, START, withBucket, withName } from "../src/pages/turnOn";
import { since } from "../src/pages/Activity";
import type { Event } from "../src/api/types";

test("everything but the name has a default", () => {
  expect(request(withName(START, "my-trail"))).toEqual({
    name: "my-trail",
    allRegions: true,
    createBucket: true,
    bucket: "my-trail",
    prefix: "",
    kmsKey: null,
    validation: true,
    topic: null,
    createTopic: false,
  });
});

test("the bucket follows the trail's name until it is typed", () => {
  const followed = withName(START, "My_Trail.2");
  expect(followed.bucket).toBe("my-trail-2");
  const typed = withBucket(followed, "audit-logs");
  expect(withName(typed, "other").bucket).toBe("audit-logs");
  expect(withName(withBucket(typed, ""), "other").bucket).toBe("other");
});

test("any valid trail name gives a valid bucket name", () => {
  const names = fc.stringMatching(/^[A-Za-z0-9]([._-]?[A-Za-z0-9]){2,126}$/).filter((name) => name.length <= 128);
  fc.assert(
    fc.property(names, (name) => {
      const form = withName(START, name);
      fc.pre(errorsOf(form).name === undefined);
      expect(errorsOf(form)).toEqual({});
      expect(bucketFor(name)).toMatch(/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/);
    }),
  );
});

/** Answers calls of the page; the last one stays open until `finish` is called. */
function server(lines: object[]): { bodies: unknown[]; finish: () => void } {
  const bodies: unknown[] = [];
  let finish = (): void => undefined;
  vi.stubGlobal("fetch", async (_url: string, init: RequestInit) => {
    bodies.push(JSON.parse(String(init.body)));
    const body = new ReadableStream({
      start(controller) {
        const encoder = new TextEncoder();
        for (const line of lines) controller.enqueue(encoder.encode(`${JSON.stringify(line)}\n`));
        finish = () => controller.close();
      },
    });
    return new Response(body, { status: 200 });
  });
  return { bodies, finish: () => finish() };
}

function typeName(name: string): void {
  fireEvent.change(screen.getByLabelText("Trail name"), { target: { value: name } });
}

test("Turn On sends once however often it is pressed, and shows each step", async () => {
  const { bodies, finish } = server([
    { step: "bucket", done: true, error: null },
    { step: "policy", done: true, error: null },
    { step: "trail", done: false, error: { code: "TrailAlreadyExistsException", message: "Trail my-trail already exists" } },
  ]);
  render(<TurnOn />);
  typeName("my-trail");
  fireEvent.click(screen.getByRole("button", { name: "Turn On" }));
  fireEvent.submit(document.querySelector("form") as HTMLFormElement);
  await screen.findByText(/already exists \(TrailAlreadyExistsException\)/);
  finish();
  await screen.findByText("CloudTrail is not on yet");
  expect(bodies).toHaveLength(1);
  expect(window.location.pathname).not.toContain("activity");
});

test("Turn On ends on the running history", async () => {
  const { finish } = server(["bucket", "policy", "trail", "logging"].map((step) => ({ step, done: true, error: null })));
  render(<TurnOn />);
  typeName("my-trail");
  fireEvent.click(screen.getByRole("button", { name: "Turn On" }));
  await screen.findByText("Progress");
  finish();
  await waitFor(() => expect(window.location.pathname + window.location.search).toBe("/console/activity?trail=my-trail"));
});

test("nothing is sent without a valid name", () => {
  const { bodies } = server([]);
  render(<TurnOn />);
  typeName("-x");
  fireEvent.click(screen.getByRole("button", { name: "Turn On" }));
  expect(screen.getByText(/3 to 128 characters/)).toBeTruthy();
  expect(bodies).toEqual([]);
});

test("the running history begins with the newest CreateTrail of the trail", () => {
  const event = (eventName: string, name: string, errorCode: string | null = null): Event =>
    ({ eventName, errorCode, eventId: `${eventName} ${name}`, resources: [{ type: null, name }] }) as Event;
  const newestFirst = [
    event("CreateUser", "Mary"),
    event("StartLogging", "my-trail"),
    event("CreateTrail", "arn:aws:cloudtrail:us-east-1:111122223333:trail/my-trail"),
    event("CreateTrail", "my-trail", "TrailAlreadyExistsException"),
    event("CreateBucket", "my-trail"),
  ];
  expect(since(newestFirst, "my-trail").map(({ eventName }) => eventName)).toEqual(["CreateTrail", "StartLogging", "CreateUser"]);
  expect(since(newestFirst, "other")).toEqual([]);
});
