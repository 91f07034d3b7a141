import createWrapper from "@cloudscape-design/components/test-utils/dom";
import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import type { Event, Term } from "../src/api/types";
import { App } from "../src/app/App";
import { connection } from "../src/api/client";
import { navigate } from "../src/app/router";
import Facets from "../src/parts/Facets";
import { AN_EVENT } from "./factories";

const SENTENCE = "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary through the AWS Management Console";
const EVENT: Event = {
  ...AN_EVENT,
  eventId: "6f1c0a2e-0000-4000-8000-000000000001",
  arn: "arn:aws:iam::123456789012:user/John",
  sourceIp: "203.0.113.64",
  userAgent: "signin.amazonaws.com",
  resources: [{ type: "AWS::IAM::User", name: "Mary" }],
  sentence: SENTENCE,
  clause: SENTENCE.split(", ").slice(2).join(", "),
};
const ROW = { name: /IAM user John created IAM user Mary/ };
const SESSION = { account: "123456789012", accounts: ["123456789012"], region: "us-east-1", regions: ["us-east-1"], version: "1", user: "operator", role: "admin", hasPassword: false, expires: "2030-01-01T00:00:00Z" };

type Answer = { status?: number; body: unknown };

/** What the server's calls answer here: a small server on `fetch`. */
let answers: Record<string, (query: URLSearchParams) => Answer | Promise<Answer>>;
let calls: URL[];

beforeEach(() => {
  calls = [];
  answers = {
    session: () => ({ body: SESSION }),
    "events/rows": () => ({ body: { events: [EVENT], next: null, tookMs: 1, missing: [] } }),
    "events/overview": () => ({
      body: { count: 1, histogram: { start: EVENT.eventTime, end: EVENT.eventTime, seconds: 60, buckets: [{ time: EVENT.eventTime, ok: 1, failed: 0 }] }, facets: {} },
    }),
    expression: (query) => ({ body: { terms: termsOf(query.get("expression") ?? ""), error: null } }),
    values: (query) => ({ body: { values: query.get("field") === "eventName" ? [{ value: "CreateUser", count: 1 }] : [] } }),
    [`events/${EVENT.eventId}`]: () => ({ body: { event: EVENT, record: '{"eventName":"CreateUser"}', delivered: [] } }),
  };
  vi.stubGlobal("fetch", async (address: string) => {
    const url = new URL(address, "http://127.0.0.1");
    calls.push(url);
    const found = (await answers[url.pathname.replace("/api/v1/", "")]?.(url.searchParams)) ?? { status: 404, body: { code: "NotFound", error: "not here", requestId: "r-1" } };
    return new Response(JSON.stringify(found.body), { status: found.status ?? 200 });
  });
  navigate("/console/events");
  connection.report("ok");
});

/** The terms of the expressions of these tests. */
function termsOf(expression: string): Term[] {
  return expression.split(" AND ").map((text) => {
    const [field = null, value = null] = text.includes("=") ? text.split("=") : [];
    return { text, field, operator: field && "=", value } as Term;
  });
}

/** Types into the filter. */
function type(text: string): void {
  const input = screen.getByRole("combobox", { name: "Filter events" });
  fireEvent.focus(input);
  fireEvent.change(input, { target: { value: text } });
}

function asked(path: string): URLSearchParams[] {
  return calls.filter(({ pathname }) => pathname === `/api/v1/${path}`).map(({ searchParams }) => searchParams);
}

test("who created Mary: type CreateUser, accept it, open the row, read the sentence", async () => {
  render(<App token={null} />);
  await screen.findByRole("link", ROW, { timeout: 60_000 });
  type("CreateUser");
  fireEvent.click(await screen.findByRole("option", { name: "eventName=CreateUser 1 event" }));
  await waitFor(() => expect(new URLSearchParams(window.location.search).get("expression")).toBe("is:write AND eventName=CreateUser"));
  await waitFor(() => expect(asked("events/rows").at(-1)?.get("expression")).toBe("is:write AND eventName=CreateUser"));
  fireEvent.click(screen.getByRole("link", ROW));
  expect(await screen.findByRole("heading", { name: SENTENCE }, { timeout: 60_000 })).toBeTruthy();
}, 240_000);

test("the agent that made a call is named as what it says it is", async () => {
  const event: Event = { ...EVENT, agent: { name: "Claude Code", kind: "agent", session: null, delegator: "ada" } };
  answers["events/rows"] = () => ({ body: { events: [event], next: null, tookMs: 1, missing: [] } });
  answers[`events/${EVENT.eventId}`] = () => ({ body: { event, record: "{}", delivered: [] } });
  render(<App token={null} />);
  fireEvent.click(await screen.findByRole("link", ROW, { timeout: 60_000 }));
  expect(await screen.findByText("By the agent, as it says", {}, { timeout: 60_000 })).toBeTruthy();
  expect(screen.getByText("Claude Code")).toBeTruthy();
  expect(screen.getByText("for ada")).toBeTruthy();
}, 240_000);

test("agents are counted on request, where there are some", () => {
  const facets = { values: null, isCounting: false, onOpen: () => undefined, expression: "", terms: [] };
  const { rerender } = render(<Facets {...facets} open={[]} hasAgents={false} />);
  expect(screen.queryByRole("button", { name: "Agent" })).toBeNull();
  rerender(<Facets {...facets} open={[]} hasAgents />);
  expect(screen.getByRole("button", { name: "Agent" })).toBeTruthy();
  rerender(<Facets {...facets} values={{ agent: [{ value: "Terraform", count: 3 }] }} open={["agent"]} hasAgents={false} />);
  expect(screen.getByRole("button", { name: "Terraform" })).toBeTruthy();
});

test("a suggestion stays while the suggestions for the typed text are loading", async () => {
  render(<App token={null} />);
  await screen.findByRole("link", ROW, { timeout: 60_000 });
  type("Create");
  await screen.findByRole("option", { name: "eventName=CreateUser 1 event" });
  answers.values = () => new Promise(() => undefined);
  type("CreateUser");
  await waitFor(() => expect(asked("values").some((query) => query.get("prefix") === "CreateUser")).toBe(true));
  expect(screen.getByRole("option", { name: "eventName=CreateUser 1 event" })).toBeTruthy();
}, 240_000);

test("keys, principals and categories are suggested with the number of their events", async () => {
  navigate("/console/events?categories=all&account=123456789012");
  answers.values = (query) => {
    const values = { accessKeyId: "AKIAEXAMPLE", arn: "arn:aws:iam::123456789012:user/John", eventCategory: "Data" }[query.get("field") ?? ""];
    return { body: { values: values ? [{ value: values, count: 7 }] : [] } };
  };
  render(<App token={null} />);
  await screen.findByRole("link", ROW, { timeout: 60_000 });
  const suggested = async (typed: string, name: string): Promise<void> => {
    type(typed);
    expect(await screen.findAllByRole("option", { name })).toHaveLength(1);
  };
  await suggested("AKIA", "accessKeyId=AKIAEXAMPLE 7 events");
  await suggested("arn:", "arn=arn:aws:iam::123456789012:user/John 7 events");
  await suggested("eventCategory=D", "eventCategory=Data 7 events");
  const bucket = { type: "AWS::S3::Bucket", name: "data", aliases: [] };
  answers["resources/list"] = () => ({ body: { resources: [bucket, { ...bucket, type: "AWS::SQS::Queue" }] } });
  await suggested("resourceName=da", "resourceName=data AWS::S3::Bucket");
  expect(screen.getAllByRole("option")).toHaveLength(1);
  expect(asked("resources/list").at(-1)?.get("account")).toBe("123456789012");
  expect(asked("values").at(-1)?.get("categories")).toBe("all");
  expect(asked("values").every((query) => query.get("account") === "123456789012")).toBe(true);
}, 240_000);

test("the page says that the last day has no event only while this is so", async () => {
  let events = [EVENT];
  answers["events/rows"] = (query) => ({ body: { events: query.get("since") === "1d" ? [] : events, next: null, tookMs: 1, missing: [] } });
  render(<App token={null} />);
  await screen.findByText(/None in the last 24 hours: all time/, {}, { timeout: 60_000 });
  events = [{ ...EVENT, eventId: "6f1c0a2e-0000-4000-8000-000000000002", eventTime: new Date().toISOString() }, EVENT];
  fireEvent.click(screen.getByRole("button", { name: "Refresh" }));
  await waitFor(() => expect(screen.getAllByRole("link", ROW)).toHaveLength(2));
  expect(screen.queryByText(/None in the last 24 hours/)).toBeNull();
}, 240_000);

test("an export has the page's conditions, and is the server's file", async () => {
  navigate("/console/events?expression=eventName%3DCreateUser&since=2020-01-01T00:00:00Z&account=123456789012");
  const { container } = render(<App token={null} />);
  await screen.findByRole("link", ROW, { timeout: 60_000 });
  let followed = "";
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    followed = this.href;
  });
  const menu = createWrapper(container)
    .findAllButtonDropdowns()
    .find((dropdown) => dropdown.findNativeButton()?.getElement().getAttribute("aria-label") === "Download events");
  act(() => menu?.openDropdown());
  act(() => menu?.findItemById("csv")?.click());
  const { pathname, searchParams } = new URL(followed);
  expect(pathname).toBe("/api/v1/export");
  expect(Object.fromEntries(searchParams)).toEqual({ expression: "eventName=CreateUser", since: "2020-01-01T00:00:00Z", account: "123456789012", format: "csv" });
}, 240_000);

test("a session that expires keeps the page, which goes on once there is another", async () => {
  render(<App token={null} />);
  await screen.findByRole("link", ROW, { timeout: 60_000 });
  const none = { status: 401, body: { code: "NoSession", error: "no session", requestId: "r-2" } };
  const before = { ...answers };
  for (const name of Object.keys(answers)) answers[name] = () => none;
  fireEvent.click(screen.getByRole("button", { name: "Refresh" }));
  expect(await screen.findByText("The session expired")).toBeTruthy();
  expect(screen.getByRole("link", ROW)).toBeTruthy();
  answers = before;
  const count = asked("events/rows").length;
  fireEvent(window, new Event("focus"));
  await waitFor(() => expect(screen.queryByText("The session expired")).toBeNull());
  await waitFor(() => expect(asked("events/rows").length).toBeGreaterThan(count));
}, 240_000);

test("an error keeps the filter and names the request", async () => {
  navigate("/console/events?expression=user%3D%28");
  answers["events/rows"] = () => ({ status: 400, body: { code: "InvalidParameterException", error: "column 6: expected a value, found '('", requestId: "r-3" } });
  render(<App token={null} />);
  expect(await screen.findByText(/column 6: expected a value.*request r-3/, {}, { timeout: 60_000 })).toBeTruthy();
  expect(screen.getByText(/user=\(/)).toBeTruthy();
}, 240_000);

test("without a session and with a used link, the page says how to get another", async () => {
  answers.session = () => ({ status: 401, body: { code: "InvalidToken", error: "used", requestId: "r-4" } });
  render(<App token="used" />);
  expect(await screen.findByText(/This link was used before/)).toBeTruthy();
  expect(screen.getByText("opentrail console")).toBeTruthy();
}, 240_000);

test("counting begins when the first page of a search is there", async () => {
  let arrive = (): void => undefined;
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  answers["events/rows"] = async () => {
    await arrived;
    return { body: { events: [EVENT], next: null, tookMs: 1, missing: [] } };
  };
  render(<App token={null} />);
  await waitFor(() => expect(asked("events/rows")).not.toEqual([]), { timeout: 60_000 });
  await act(async () => undefined);
  expect(asked("events/overview")).toEqual([]);
  arrive();
  await screen.findByRole("heading", { name: "Event history (1)" });
  await waitFor(() => expect(asked("events/overview")).toHaveLength(1));
});
