import { render, screen } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { connection } from "../src/api/client";
import { App } from "../src/app/App";
import { navigate } from "../src/app/router";
import { eventsOf } from "../src/pages/Detections";

const SESSION = { account: "123456789012", accounts: [], region: "us-east-1", regions: [], version: "1", user: "ann", role: "viewer", hasPassword: false, expires: "2030-01-01T00:00:00Z" };
const RULE = { name: "keys", title: "Many access keys", level: "high", description: "Someone makes keys.", author: "Ada", tags: [], references: [], correlation: "event_count", enabledAt: "2026-01-01T00:00:00Z", enabledBy: "ann", matches: 1_234, complete: true, lastMatch: "2026-01-01T09:00:00Z" };
const MATCH = { eventId: "m-1", eventTime: "2026-01-01T09:00:00Z", rule: "keys", title: RULE.title, level: "high", account: "123456789012", region: "us-east-1", eventSource: "iam.amazonaws.com", eventName: "CreateAccessKey", principals: ["arn:aws:iam::123456789012:user/eve\u202e"], eventIds: ["e-1", "e-2"], groupBy: {} };

let asked: string[];
let rules: (typeof RULE)[];

beforeEach(() => {
  asked = [];
  rules = [RULE];
  vi.stubGlobal("fetch", async (address: string) => {
    const { pathname, search } = new URL(address, "http://127.0.0.1");
    asked.push(pathname + search);
    const answers: Record<string, unknown> = {
      session: SESSION,
      detections: { rules, missing: [] },
      "detections/matches": { matches: rules.length ? [MATCH] : [], missing: [] },
    };
    const path = pathname.replace("/api/v1/", "");
    return path in answers ? Response.json(answers[path]) : Response.json({ code: "NotFound", error: "not here" }, { status: 404 });
  });
  connection.report("ok");
});

test("rules are listed, and a rule leads to its matches and their events", async () => {
  navigate("/console/detections?name=keys");
  render(<App token={null} />);
  const rule = await screen.findByRole("link", { name: "Many access keys" }, { timeout: 60_000 });
  expect(rule.getAttribute("href")).toBe("/console/detections?name=keys");
  expect(screen.getByText("1,234")).toBeTruthy();
  expect(await screen.findByText("Newest matches of Many access keys")).toBeTruthy();
  expect(screen.getByText("Someone makes keys.")).toBeTruthy();
  const events = await screen.findByRole("link", { name: "2 events" });
  expect(events.getAttribute("href")).toBe(eventsOf(MATCH));
  expect(screen.getByText(/user\/eve\\u202e/)).toBeTruthy();
  expect(asked).toContain("/api/v1/detections/matches?name=keys");
});

test("without rules the page says how to enable them", async () => {
  rules = [];
  navigate("/console/detections");
  render(<App token={null} />);
  expect(await screen.findByText("opentrail detections enable RULES", {}, { timeout: 60_000 })).toBeTruthy();
  expect(await screen.findByText("No matches.")).toBeTruthy();
});

test("a match leads to the page of its event, or to a search for several", () => {
  expect(eventsOf({ eventIds: ["a/b"] })).toBe("/console/events/a%2Fb");
  const address = new URL(eventsOf({ eventIds: ["a", "b"] }), "http://127.0.0.1");
  expect(address.searchParams.get("expression")).toBe('eventID=a OR eventID=b');
  expect(address.searchParams.get("categories")).toBe("all");
  const many = Array.from({ length: 60 }, (_, index) => `id-${index}`);
  expect(new URL(eventsOf({ eventIds: many }), "http://127.0.0.1").searchParams.get("expression")?.split(" OR ")).toHaveLength(50);
});
