import createWrapper from "@cloudscape-design/components/test-utils/dom";
import { act, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { connection } from "../src/api/client";
import type { SavedView } from "../src/api/types";
import { App } from "../src/app/App";
import { navigate } from "../src/app/router";

const SESSION = { account: "123456789012", accounts: [], region: "us-east-1", regions: [], version: "1", user: "operator", role: "admin", hasPassword: false, expires: "2030-01-01T00:00:00Z" };

let views: SavedView[];
let sent: { method: string; name: string; body: unknown }[];

/** A small server: it stores views as the real one does. */
function stored(method: string, name: string, body: { state: SavedView["state"]; expected: number } | null): Response {
  sent.push({ method, name, body });
  const before = views.find((view) => view.name === name);
  views = views.filter((view) => view !== before);
  if (method === "DELETE" || !body) return Response.json({});
  if ((before?.version ?? 0) !== body.expected) {
    if (before) views.push(before);
    return Response.json({ code: "ViewChanged", error: "changed meanwhile", requestId: "r-9" }, { status: 409 });
  }
  views.push({ name, version: body.expected + 1, state: body.state });
  return Response.json(views.at(-1));
}

beforeEach(() => {
  views = [{ name: "Failures/all", version: 3, state: { expression: "is:failure", last: "1d", columns: "time,name" } }];
  sent = [];
  vi.stubGlobal("fetch", async (address: string, init: RequestInit = {}) => {
    const path = new URL(address, "http://127.0.0.1").pathname.replace("/api/v1/", "");
    const [, name] = /^views\/(.+)$/.exec(path) ?? [];
    if (name) return stored(init.method ?? "", decodeURIComponent(name), JSON.parse(String(init.body ?? null)));
    const answers: Record<string, unknown> = {
      session: SESSION,
      views: { views },
      "events/rows": { events: [], next: null, prev: null, tookMs: 1, missing: [] },
      "events/overview": { count: 0, histogram: { start: "2026-01-01T00:00:00Z", end: "2026-01-01T00:00:00Z", seconds: 60, buckets: [] }, facets: {} },
    };
    return path in answers ? Response.json(answers[path]) : Response.json({ code: "NotFound", error: "not here" }, { status: 404 });
  });
  navigate("/console/events?expression=eventName%3DCreateUser&last=7d");
  connection.report("ok");
});

async function openMenu(container: HTMLElement, item: string): Promise<void> {
  await screen.findByRole("button", { name: "Saved views" }, { timeout: 60_000 });
  const menu = createWrapper(container)
    .findAllButtonDropdowns()
    .find((dropdown) => dropdown.findNativeButton()?.getElement().getAttribute("aria-label") === "Saved views");
  await waitFor(() => {
    act(() => menu?.openDropdown());
    expect(menu?.findItemById(item)).toBeTruthy();
  });
  act(() => menu?.findItemById(item)?.click());
}

async function dialog(): Promise<HTMLElement> {
  return screen.findByRole("dialog", { name: "Saved views" }, { timeout: 60_000 });
}

function enter(name: string): void {
  const input = createWrapper(document.body).findModal()?.findContent().findInput();
  act(() => input?.setInputValue(name));
}

test("a view keeps filter, columns and a range that stays relative", async () => {
  const { container } = render(<App token={null} />);
  await openMenu(container, "save");
  const shown = within(await dialog());
  enter("New users");
  fireEvent.click(shown.getByRole("button", { name: "Save" }));
  expect(await shown.findByText("Saved: New users")).toBeTruthy();
  const state = { expression: "eventName=CreateUser", last: "7d", columns: "time,method,what,ip,result" };
  expect(sent).toEqual([{ method: "PUT", name: "New users", body: { state, expected: 0 } }]);
  expect(await shown.findByRole("link", { name: "New users" })).toBeTruthy();
}, 240_000);

test("a chosen view is the page's state", async () => {
  const { container } = render(<App token={null} />);
  await openMenu(container, "view 0");
  const query = new URLSearchParams(window.location.search);
  expect(Object.fromEntries(query)).toEqual({ expression: "is:failure", last: "1d", columns: "time,name" });
}, 240_000);

test("a view is replaced by its name, and deleted", async () => {
  const { container } = render(<App token={null} />);
  await openMenu(container, "manage");
  const shown = within(await dialog());
  fireEvent.click(shown.getByRole("button", { name: "Replace Failures/all with this view" }));
  expect(await shown.findByText(/There is a view with this name: is:failure/)).toBeTruthy();
  fireEvent.click(shown.getByRole("button", { name: "Replace" }));
  await shown.findByText("Replaced: Failures/all");
  expect(sent.at(-1)).toMatchObject({ method: "PUT", name: "Failures/all", body: { expected: 3 } });
  fireEvent.click(shown.getByRole("button", { name: "Delete Failures/all" }));
  await shown.findByText("Deleted: Failures/all");
  expect(views).toEqual([]);
}, 240_000);

test("a view that another reader changed is not overwritten", async () => {
  const { container } = render(<App token={null} />);
  await openMenu(container, "manage");
  const shown = within(await dialog());
  views = views.map((view) => ({ ...view, version: 4 }));
  enter("Failures/all");
  fireEvent.click(shown.getByRole("button", { name: "Replace" }));
  expect(await shown.findByText(/changed meanwhile.*r-9/)).toBeTruthy();
  expect(views[0]?.state.expression).toBe("is:failure");
}, 240_000);

test("a copied link has absolute times, whatever the range is", async () => {
  let copied = "";
  vi.stubGlobal("navigator", Object.assign(Object.create(navigator), { clipboard: { writeText: async (text: string) => void (copied = text) } }));
  const before = Date.now();
  render(<App token={null} />);
  fireEvent.click(await screen.findByRole("button", { name: "Copy link" }, { timeout: 60_000 }));
  await waitFor(() => expect(copied).not.toBe(""));
  const query = new URL(copied).searchParams;
  expect(query.get("last")).toBeNull();
  const [since, until] = [Date.parse(query.get("since") ?? ""), Date.parse(query.get("until") ?? "")];
  expect(until).toBeGreaterThanOrEqual(before - 1_000);
  expect(Math.abs(until - since - 7 * 86_400_000)).toBeLessThan(120_000);
  expect(query.get("expression")).toBe("eventName=CreateUser");
}, 240_000);
