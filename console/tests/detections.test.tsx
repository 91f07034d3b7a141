import { fireEvent, render, screen } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { connection } from "../src/api/client";
import { App } from "../src/app/App";
import { navigate } from "../src/app/router";
import { filtered } from "../src/pages/Detections";
import { eventsOf } from "../src/parts/matchEvents";
import { byRule } from "../src/parts/OpenMatches";
import { copyOf, TEMPLATE } from "../src/parts/RuleEditor";

const SESSION = { account: "123456789012", accounts: [], region: "us-east-1", regions: [], version: "1", user: "ann", role: "admin", hasPassword: false, expires: "2030-01-01T00:00:00Z" };
const RULE = { name: "keys", title: "Many access keys", level: "high", description: "Someone makes keys.", author: "Ada", tags: [], references: [], falsePositives: ["A script"], technique: "T1098.001", starter: false, correlation: "event_count", enabledAt: "2026-01-01T00:00:00Z", enabledBy: "ann", matches: 1_234, complete: true, lastMatch: "2026-01-01T09:00:00Z" };
const OFF = { ...RULE, name: "trails", title: "Trail stopped", description: "It hides calls.", level: "critical", technique: "T1562.008", starter: true, enabledAt: null as string | null, enabledBy: null as string | null, matches: 0, lastMatch: null };
const TESTED = { rule: "keys", title: RULE.title, level: "high", matches: 7, first: "2026-01-01T00:00:00Z", last: "2026-01-01T09:00:00Z", examples: [{ eventTime: "2026-01-01T09:00:00Z", eventName: "CreateAccessKey", principal: "eve", eventIds: ["e-9"] }], events: 1, readBackTo: null, warnings: ["no event 'X'"], missing: [] };
const MATCH = { eventId: "m-1", eventTime: "2026-01-01T09:00:00Z", rule: "keys", title: RULE.title, level: "high", account: "123456789012", region: "us-east-1", eventSource: "iam.amazonaws.com", eventName: "CreateAccessKey", principals: ["arn:aws:iam::123456789012:user/eve\u202e"], eventIds: ["e-1", "e-2"], groupBy: {} };

let asked: string[];
let posted: [string, unknown][];
let role: string;

beforeEach(() => {
  asked = [];
  posted = [];
  role = "admin";
  vi.stubGlobal("fetch", async (address: string, options?: RequestInit) => {
    const { pathname, search } = new URL(address, "http://127.0.0.1");
    if (options?.method === "POST") {
      const given = JSON.parse(String(options.body));
      posted.push([pathname, given]);
      if (String(given.source).includes("status")) return Response.json({ code: "InvalidParameterException", error: "line 5: it can never match" }, { status: 400 });
      return Response.json(pathname.endsWith("test") ? TESTED : RULE);
    }
    asked.push(pathname + search);
    const answers: Record<string, unknown> = {
      session: { ...SESSION, role },
      detections: { rules: [RULE], notEnabled: [OFF], missing: [] },
      "detections/rule": { ...RULE, source: "title: Many access keys\nname: keys\n" },
      "detections/matches": { matches: [MATCH], missing: [] },
    };
    const path = pathname.replace("/api/v1/", "");
    return path in answers ? Response.json(answers[path]) : Response.json({ code: "NotFound", error: "not here" }, { status: 404 });
  });
  connection.report("ok");
});

const SLOW = { timeout: 60_000 };

test("rules are listed, and enabled and disabled by administrators", async () => {
  navigate("/console/detections");
  render(<App token={null} />);
  const rule = await screen.findByRole("link", { name: "Many access keys" }, SLOW);
  expect(rule.getAttribute("href")).toBe("/console/detections?name=keys");
  expect(screen.getByText("1,234")).toBeTruthy();
  fireEvent.click(screen.getByRole("checkbox", { name: "Enable Trail stopped" }));
  expect(posted).toEqual([["/api/v1/detections", { starter: "trails" }]]);
  await vi.waitFor(() => expect(screen.getByRole("checkbox", { name: "Enable Many access keys" }).hasAttribute("disabled")).toBe(false));
  fireEvent.click(screen.getByRole("checkbox", { name: "Enable Many access keys" }));
  fireEvent.click(await screen.findByRole("button", { name: "Disable and remove" }));
  expect(posted[1]).toEqual(["/api/v1/detections/disable", { name: "keys" }]);
});

test("viewers see rules, and nothing with which to change them", async () => {
  role = "viewer";
  navigate("/console/detections?write=");
  render(<App token={null} />);
  expect(await screen.findByRole("link", { name: "Many access keys" }, SLOW)).toBeTruthy();
  expect(screen.queryByRole("checkbox")).toBeNull();
  expect(screen.queryByText("Write a rule")).toBeNull();
});

test("a rule has a page, with a test, its matches and their events", async () => {
  navigate("/console/detections?name=keys");
  render(<App token={null} />);
  expect(await screen.findByRole("heading", { name: "Newest matches of Many access keys" }, SLOW)).toBeTruthy();
  expect(screen.getByText("A script")).toBeTruthy();
  expect(screen.getByRole("link", { name: /T1098.001/ }).getAttribute("href")).toBe("https://attack.mitre.org/techniques/T1098/001/");
  const events = await screen.findByRole("link", { name: "2 events" });
  expect(events.getAttribute("href")).toBe(eventsOf(MATCH));
  expect(screen.getByText(/user\/eve\\u202e/)).toBeTruthy();
  expect(asked).toContain("/api/v1/detections/matches?name=keys");
  fireEvent.click(screen.getByRole("button", { name: "Test on the last 90 days" }));
  expect(await screen.findByText("Would have matched 7 times in 90 days")).toBeTruthy();
  expect(screen.getByText("Read 1 event that the rule could match.")).toBeTruthy();
  expect(screen.getByText("A part can never match: no event 'X'")).toBeTruthy();
  expect(screen.getByRole("link", { name: "CreateAccessKey" }).getAttribute("href")).toBe("/console/events/e-9");
});

test("a rule is written, tested, then enabled", async () => {
  navigate("/console/detections?write=");
  render(<App token={null} />);
  const text = (await screen.findByRole("textbox", { name: "Rule" }, SLOW)) as HTMLTextAreaElement;
  expect(text.value).toBe(TEMPLATE);
  const enable = screen.getByRole("button", { name: /^Enable/ });
  expect(enable.hasAttribute("disabled") || enable.getAttribute("aria-disabled") === "true").toBe(true);
  fireEvent.change(text, { target: { value: "status: x" } });
  fireEvent.click(screen.getByRole("button", { name: "Test on the last 90 days" }));
  expect(await screen.findByText("line 5: it can never match")).toBeTruthy();
  fireEvent.change(text, { target: { value: "title: x" } });
  fireEvent.click(screen.getByRole("button", { name: "Test on the last 90 days" }));
  expect(await screen.findByText("Would have matched 7 times in 90 days")).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Enable" }));
  await vi.waitFor(() => expect(location.search).toBe("?name=keys"));
  expect(posted.map(([, body]) => body)).toEqual([{ source: "status: x", since: "90d" }, { source: "title: x", since: "90d" }, { source: "title: x" }]);
});

test("a copy has another name, and no id", () => {
  expect(copyOf("title: T\nname: a.b\nid: 1\nlevel: low\n", "a.b")).toBe("title: T\nname: a.b_copy\nlevel: low\n");
});

test("rules are found by any of their parts", () => {
  const names = (words: string, shown = "all"): string[] => filtered([RULE, OFF], words, shown).map(({ name }) => name);
  expect(names("")).toEqual(["keys", "trails"]);
  expect(names("t1562 CRIT")).toEqual(["trails"]);
  expect(names("high keys")).toEqual(["keys"]);
  expect(names("", "enabled")).toEqual(["keys"]);
  expect(names("keys", "off")).toEqual([]);
});

test("matches are counted by rule, the newest first", () => {
  const of = (rule: string, eventId: string) => ({ ...MATCH, rule, eventId });
  expect(byRule([of("b", "3"), of("a", "2"), of("b", "1")]).map(([{ eventId }, count]) => [eventId, count])).toEqual([["3", 2], ["2", 1]]);
});

test("a match leads to the page of its event, or to a search for several", () => {
  expect(eventsOf({ eventIds: ["a/b"] })).toBe("/console/events/a%2Fb");
  const address = new URL(eventsOf({ eventIds: ["a", "b"] }), "http://127.0.0.1");
  expect(address.searchParams.get("expression")).toBe('eventID=a OR eventID=b');
  expect(address.searchParams.get("categories")).toBe("all");
  const many = Array.from({ length: 60 }, (_, index) => `id-${index}`);
  expect(new URL(eventsOf({ eventIds: many }), "http://127.0.0.1").searchParams.get("expression")?.split(" OR ")).toHaveLength(50);
});
