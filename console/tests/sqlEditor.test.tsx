import { fireEvent, render, screen } from "@testing-library/react";
import { createRef, useState } from "react";
import { expect, test, vi } from "vitest";
import type { TablesAnswer } from "../src/api/types";
import { columnsIn, completion } from "../src/pages/sqlCompletion";
import { SqlEditor } from "../src/pages/SqlEditor";

const table = { id: null, category: null, account: null, region: null, retentionDays: null, created: null, iceberg: null, status: "ENABLED" as const };
const KNOWN: TablesAnswer = {
  tables: [
    { ...table, sql: "event_history", name: "event_history" },
    { ...table, sql: '"s3-writes"', name: "s3-writes", status: "STOPPED_INGESTION" },
    { ...table, sql: '"orders"', name: "orders", category: "ActivityAuditLog" },
  ],
  columns: [
    { name: "eventTime", type: "timestamp(3)" },
    { name: "eventName", type: "varchar" },
    { name: "userIdentity", type: "row(arn varchar, sessionContext row(attributes row(mfaAuthenticated varchar), sourceIdentity varchar), userName varchar)" },
  ],
  activityColumns: [{ name: "eventData", type: "row(eventName varchar, UID varchar)" }],
};

/** The suggestions at `^`. */
function at(text: string): string[] | null {
  const cursor = text.indexOf("^");
  const found = completion(text.replace("^", ""), cursor, KNOWN.tables, columnsIn(text, KNOWN));
  return found && found.suggestions.map((suggestion) => suggestion.text);
}

test.each([
  ["SELECT eventn^", ["eventName"]],
  ["SELECT EVENT^", ["eventTime", "eventName"]],
  ["SELECT approx_d^", ["approx_distinct("]],
  ["SELECT 1 wher^ event_history", ["WHERE"]],
  ["SELECT 1 FROM ^", ["event_history", '"s3-writes"', '"orders"']],
  ["SELECT 1 FROM s3^", ['"s3-writes"']],
  ['SELECT 1 FROM "s3-w^', ['"s3-writes"']],
  ["SELECT userIdentity.^", ["arn", "sessionContext", "userName"]],
  ["SELECT useridentity.sessionContext.attributes.^", ["mfaAuthenticated"]],
  ["SELECT userIdentity.sessionContext.s^", ["sourceIdentity"]],
  ["SELECT eventD^ FROM orders", ["eventData"]],
  ["SELECT eventData.U^ FROM orders", ["UID"]],
  ["SELECT event^ FROM orders", ["eventData"]],
  ["SELECT event^ FROM orders, event_history", ["eventData", "eventTime", "eventName"]],
  ["SELECT eventName.^", []],
  ["SELECT 'it''s' || eventN^", ["eventName"]],
  ["-- one\nSELECT eventN^", ["eventName"]],
])("completes %s", (text, expected) => {
  expect(at(text)).toEqual(expected);
});

test.each(["SELECT 'eventN^", "SELECT 1 -- eventN^", "SELECT /* eventN^", 'SELECT "eventN^'])("does not complete %s", (text) => {
  expect(at(text)).toBeNull();
});

function Editor({ onRun }: { onRun: () => void }) {
  const [statement, setStatement] = useState("");
  return <SqlEditor statement={statement} onChange={setStatement} onRun={onRun} known={KNOWN} editor={createRef()} />;
}

function type(value: string): HTMLTextAreaElement {
  const editor = screen.getByRole<HTMLTextAreaElement>("textbox", { name: "Statement" });
  fireEvent.change(editor, { target: { value } });
  return editor;
}

test("a suggestion is chosen by the keyboard", () => {
  render(<Editor onRun={() => undefined} />);
  const editor = type("SELECT event");
  expect(screen.getByRole("option", { selected: true }).textContent).toContain("eventTime");
  fireEvent.keyDown(editor, { key: "ArrowDown" });
  expect(editor.getAttribute("aria-activedescendant")).toBe(screen.getByRole("option", { selected: true }).id);
  fireEvent.keyDown(editor, { key: "Tab" });
  expect(editor.value).toBe("SELECT eventName");
  expect(editor.selectionStart).toBe(editor.value.length);
  expect(screen.queryByRole("listbox")).toBeNull();
});

test("Escape closes the suggestions, and Ctrl+Space opens them", () => {
  render(<Editor onRun={() => undefined} />);
  const editor = type("SELECT user");
  fireEvent.keyDown(editor, { key: "Escape" });
  expect(screen.queryByRole("listbox")).toBeNull();
  expect(fireEvent.keyDown(editor, { key: "Tab" })).toBe(true);
  fireEvent.keyDown(editor, { key: " ", ctrlKey: true });
  fireEvent.click(screen.getByRole("option", { name: /userIdentity/ }));
  expect(editor.value).toBe("SELECT userIdentity");
});

test.each(["select", "SELECT eventTime", "SELECT 1 FROM event_history"])("Enter begins a line after the whole word in %s", (statement) => {
  render(<Editor onRun={() => undefined} />);
  const editor = type(statement);
  expect(screen.queryByRole("listbox")).toBeNull();
  expect(fireEvent.keyDown(editor, { key: "Enter" })).toBe(true);
});

test("Ctrl+Enter runs the statement", () => {
  const run = vi.fn();
  render(<Editor onRun={run} />);
  fireEvent.keyDown(type("SELECT event"), { key: "Enter", ctrlKey: true });
  expect(run).toHaveBeenCalledOnce();
  expect(screen.queryByRole("listbox")).toBeNull();
});
