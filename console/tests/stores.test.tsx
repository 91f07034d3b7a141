import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { connection } from "../src/api/client";
import type { StoreSummary } from "../src/api/types";
import { App } from "../src/app/App";
import { navigate } from "../src/app/router";
import { settingsOf, type StoreForm } from "../src/pages/EditStore";

const ACCOUNT = "123456789012";
const ARN = `arn:aws:cloudtrail:eu-west-1:${ACCOUNT}:eventdatastore/e-1`;
const SESSION = { account: ACCOUNT, accounts: [], region: "us-east-1", regions: [], version: "1", user: "ann", hasPassword: false, expires: "2030-01-01T00:00:00Z" };
const SELECTOR = { Name: "Writes", FieldSelectors: [{ Field: "eventCategory", Equals: ["Management"] }, { Field: "readOnly", Equals: ["false"] }] };
const STORE: StoreSummary = {
  arn: ARN,
  name: "writes",
  sql: '"writes"',
  account: ACCOUNT,
  region: "eu-west-1",
  status: "ENABLED",
  categories: ["Management"],
  selectors: [SELECTOR],
  multiRegion: true,
  retentionDays: 3_653,
  terminationProtection: false,
  tags: { team: "audit" },
  created: "2026-01-01T09:00:00Z",
  updated: "2026-01-02T09:00:00Z",
  restorableUntil: null,
};
const UNSUPPORTED = { code: "UnsupportedOperationException", error: "opentrail does not support event data stores on a cluster of servers yet" };
const VIEW = `/console/stores/view?arn=${encodeURIComponent(ARN)}`;
const SLOW = { timeout: 60_000 };

let posted: [string, unknown][];
let role: string;
let stores: StoreSummary[] | null;
let refusal: object | null;

beforeEach(() => {
  posted = [];
  role = "operator";
  stores = [STORE];
  refusal = null;
  vi.stubGlobal("fetch", async (address: string, options?: RequestInit) => {
    const { pathname, search } = new URL(address, "http://127.0.0.1");
    const path = pathname.replace("/api/v1/", "");
    if (path === "stores/preview") return Response.json({ events: 9, selected: 4, complete: true, leftOut: [] });
    if (path === "session") return Response.json({ ...SESSION, role });
    if (path === "stores") return stores ? Response.json({ stores }) : Response.json(UNSUPPORTED, { status: 400 });
    if (options?.method !== "POST") return Response.json({ code: "NotFound", error: "not here" }, { status: 404 });
    posted.push([path + search, JSON.parse(String(options.body))]);
    return refusal ? Response.json(refusal, { status: 400 }) : Response.json({ EventDataStoreArn: ARN });
  });
  connection.report("ok");
});

async function open(address: string, heading: string): Promise<void> {
  navigate(address);
  render(<App token={null} />);
  await screen.findByRole("heading", { name: heading }, SLOW);
}

async function press(name: string, within_ = screen as Pick<typeof screen, "findByRole">): Promise<void> {
  fireEvent.click(await within_.findByRole("button", { name }));
}

const place = (): string => window.location.pathname + window.location.search;

test("stores are listed with their settings", async () => {
  stores = [STORE, { ...STORE, arn: `${ARN}2`, name: "old", status: "PENDING_DELETION", multiRegion: false, terminationProtection: true }];
  await open("/console/stores", "Event data stores (2)");
  const table = await screen.findByRole("table", { name: "Event data stores" });
  const [, writes, old] = within(table).getAllByRole("row").map((row) => row.textContent);
  for (const text of ["writes", "Enabled", "Management", "3,653 days", "eu-west-1, all Regions", "off"]) expect(writes).toContain(text);
  for (const text of ["old", "Deleted", "on"]) expect(old).toContain(text);
  expect(screen.getByRole("link", { name: "writes" }).getAttribute("href")).toBe(VIEW);
});

test("an empty list says what a store is for, and offers one to operators", async () => {
  stores = [];
  role = "auditor";
  await open("/console/stores", "Event data stores (0)");
  expect(await screen.findByText(/A store keeps the events that you select for up to ten years/)).toBeTruthy();
  expect(screen.queryByRole("link", { name: "Create event data store" })).toBeNull();
});

test("a server without stores says so", async () => {
  stores = null;
  await open("/console/stores", "Event data stores");
  expect(await screen.findByText("This server has no event data stores")).toBeTruthy();
  expect(screen.getByText(/does not support event data stores on a cluster/)).toBeTruthy();
});

test("a store is created with all settings, in the default Region", async () => {
  await open("/console/stores/create", "Create event data store");
  fireEvent.change(screen.getByLabelText("Name"), { target: { value: "mine" } });
  fireEvent.change(screen.getByLabelText("Retention in days"), { target: { value: "ten" } });
  await press("Create event data store");
  expect(await screen.findByText("Enter a whole number of days.")).toBeTruthy();
  expect(posted).toEqual([]);
  fireEvent.change(screen.getByLabelText("Retention in days"), { target: { value: "30" } });
  expect(await screen.findByText(/4 of 9 events of the last day/)).toBeTruthy();
  await press("Create event data store");
  await waitFor(() => expect(place()).toBe(VIEW));
  const selectors = [{ Name: "Management events", FieldSelectors: [{ Field: "eventCategory", Equals: ["Management"] }] }];
  const settings = { Name: "mine", RetentionPeriod: 30, MultiRegionEnabled: true, TerminationProtectionEnabled: true, AdvancedEventSelectors: selectors };
  expect(posted).toEqual([["aws/CreateEventDataStore", settings]]);
});

test("a refused store keeps its form", async () => {
  refusal = { code: "EventDataStoreAlreadyExistsException", error: "it exists" };
  await open("/console/stores/create", "Create event data store");
  await press("Create event data store");
  expect(await screen.findByText(/it exists \(EventDataStoreAlreadyExistsException\)/)).toBeTruthy();
  expect(place()).toBe("/console/stores/create");
});

test("an edited store gets only changed settings, in its Region", async () => {
  await open(`/console/stores/edit?arn=${encodeURIComponent(ARN)}`, "Edit event data store writes");
  const save = screen.getByRole("button", { name: "Save changes" });
  expect(save.hasAttribute("disabled")).toBe(true);
  fireEvent.change(screen.getByLabelText("Retention in days"), { target: { value: "400" } });
  fireEvent.click(save);
  await waitFor(() => expect(place()).toBe(VIEW));
  expect(posted).toEqual([["aws/UpdateEventDataStore?region=eu-west-1", { EventDataStore: ARN, RetentionPeriod: 400 }]]);
});

test("changed selectors are sent whole", () => {
  const form: StoreForm = { name: "a", days: "7", allRegions: true, isProtected: true, selectors: [{ name: "", category: "Management", conditions: [] }] };
  const changed = { ...form, selectors: [...form.selectors, { name: "", category: "Insight", conditions: [] }] };
  const of = (category: string): object => ({ FieldSelectors: [{ Field: "eventCategory", Equals: [category] }] });
  expect(settingsOf(changed, form)).toEqual({ AdvancedEventSelectors: [of("Management"), of("Insight")] });
});

test("a deletion needs the typed name", async () => {
  await open(VIEW, "writes");
  await press("Delete");
  const dialog = await screen.findByRole("dialog");
  expect(dialog.textContent).toContain("You can restore it for seven days.");
  const name = within(dialog).getByLabelText("Type writes to confirm");
  const confirm = within(dialog).getByRole("button", { name: "Delete event data store" });
  await waitFor(() => expect(document.activeElement).toBe(name));
  fireEvent.change(name, { target: { value: "write" } });
  fireEvent.submit(name.closest("form") as HTMLFormElement);
  expect(confirm.hasAttribute("disabled")).toBe(true);
  expect(posted).toEqual([]);
  fireEvent.change(name, { target: { value: "writes" } });
  fireEvent.submit(name.closest("form") as HTMLFormElement);
  await waitFor(() => expect(posted).toEqual([["aws/DeleteEventDataStore?region=eu-west-1", { EventDataStore: ARN }]]));
});

test("ingestion stops after a question, and a refusal is shown", async () => {
  refusal = { code: "InvalidEventDataStoreStatusException", error: "not now" };
  await open(VIEW, "writes");
  await press("Stop ingestion");
  await press("Stop ingestion", within(await screen.findByRole("dialog")));
  expect(await screen.findByText(/not now/)).toBeTruthy();
  expect(posted).toEqual([["aws/StopEventDataStoreIngestion?region=eu-west-1", { EventDataStore: ARN }]]);
});

test.each([
  ["STOPPED_INGESTION" as const, null, "Start ingestion", "StartEventDataStoreIngestion"],
  ["PENDING_DELETION" as const, "2026-01-09T09:00:00Z", "Restore", "RestoreEventDataStore"],
])("a store in status %s can start again", async (status, restorableUntil, name, operation) => {
  stores = [{ ...STORE, status, restorableUntil }];
  await open(VIEW, "writes");
  expect(screen.queryByRole("link", { name: "Query" }) === null).toBe(restorableUntil !== null);
  await press(name);
  await waitFor(() => expect(posted).toEqual([[`aws/${operation}?region=eu-west-1`, { EventDataStore: ARN }]]));
});

test.each(["Insight", "ActivityAuditLog"])("a protected store cannot be deleted, and one of %s events not be stopped", async (category) => {
  stores = [{ ...STORE, terminationProtection: true, categories: [category] }];
  await open(VIEW, "writes");
  expect((await screen.findByRole("button", { name: "Delete" })).getAttribute("aria-disabled")).toBe("true");
  expect(screen.queryByRole("button", { name: "Stop ingestion" })).toBeNull();
  expect(screen.getByText("team = audit")).toBeTruthy();
});

test("auditors can only query a store", async () => {
  role = "auditor";
  await open(VIEW, "writes");
  expect(await screen.findByRole("link", { name: "Query" })).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Delete" })).toBeNull();
});

test("stores of another account cannot be changed here", async () => {
  stores = [{ ...STORE, account: "210987654321" }];
  await open(VIEW, "writes");
  expect(await screen.findByText(/belongs to account 210987654321/)).toBeTruthy();
  expect(screen.queryByRole("link", { name: "Edit" })).toBeNull();
});

test("a query opens the SQL page with a statement", async () => {
  await open(VIEW, "writes");
  fireEvent.click(await screen.findByRole("link", { name: "Query" }));
  const editor = await screen.findByRole<HTMLTextAreaElement>("textbox", { name: "Statement" }, SLOW);
  expect(editor.value).toContain('FROM "writes"');
});

test("an unknown store is named", async () => {
  await open("/console/stores/view?arn=other", "Event data store");
  expect(await screen.findByText("There is no event data store other")).toBeTruthy();
});
