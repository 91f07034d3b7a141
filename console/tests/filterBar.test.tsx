import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { type ReactNode, useState } from "react";
import { beforeEach, expect, test, vi } from "vitest";
import { read } from "../src/filter/expression";
import { FilterBar } from "../src/filter/FilterBar";

/** Answers of the server: how it splits some expressions, and calls that wait. */
let invalid: Record<string, { at: number; length: number }>;
let held: Record<string, Promise<void>>;
/** Sets the expression, as the address does. */
let go: (expression: string) => void;

beforeEach(() => {
  [invalid, held] = [{}, {}];
  vi.stubGlobal("fetch", async (address: string) => {
    const url = new URL(address, "http://127.0.0.1");
    if (!url.pathname.endsWith("/expression")) return new Response(JSON.stringify({ values: [], resources: [] }));
    const text = url.searchParams.get("expression") ?? "";
    await held[text];
    const place = invalid[text];
    const terms = place ? [] : text.split(" AND ").map((term) => ({ text: term, field: null, operator: null, value: null }));
    return new Response(JSON.stringify({ terms, error: place ? { message: "wrong", ...place } : null }));
  });
});

function Filter({ start }: { start: string }): ReactNode {
  const [expression, setExpression] = useState(start);
  go = setExpression;
  return (
    <>
      <FilterBar expression={expression} onChange={setExpression} onEnter={() => undefined} onLeave={() => undefined} />
      <output>{expression}</output>
    </>
  );
}

/** Shows a filter, and returns its field once its terms are there. */
async function shown(start: string): Promise<HTMLInputElement> {
  render(<Filter start={start} />);
  if (start) await screen.findAllByRole("listitem");
  return screen.getByRole("combobox");
}

function expression(): string | null {
  return screen.getByRole("status").textContent;
}

function type(field: HTMLElement, value: string): void {
  fireEvent.change(field, { target: { value } });
}

function hold(text: string): () => void {
  let release = (): void => undefined;
  held[text] = new Promise((resolve) => (release = resolve));
  return release;
}

/** Waits until everything that waits for the answer about an expression has it. */
async function answered(text: string): Promise<void> {
  await act(async () => void (await read(text)));
}

test("a term that is edited remains while another is removed", async () => {
  const field = await shown("one AND two AND three");
  fireEvent.click(screen.getByRole("button", { name: "Edit two" }));
  fireEvent.click(screen.getByRole("button", { name: "Remove three" }));
  await waitFor(() => expect(expression()).toBe("one AND two"));
  expect(field.value).toBe("two");
});

test("the focus goes to the field when a term is removed", async () => {
  const field = await shown("four AND five");
  const remove = screen.getByRole("button", { name: "Remove four" });
  remove.focus();
  fireEvent.click(remove);
  await waitFor(() => expect(expression()).toBe("five"));
  expect(document.activeElement).toBe(field);
});

test("words together stand instead of all that is typed", async () => {
  const field = await shown("");
  type(field, "run instances now");
  fireEvent.click(await screen.findByRole("option", { name: /These words together/ }));
  await waitFor(() => expect(expression()).toBe('"run instances now"'));
});

test("what is typed while an answer is awaited remains", async () => {
  const field = await shown("");
  const release = hold("six");
  type(field, "six");
  fireEvent.keyDown(field, { key: "Enter" });
  type(field, "six seven");
  release();
  await answered("six");
  expect(field.value).toBe("six seven");
});

test("a term is added to the expression of its time", async () => {
  const field = await shown("eight");
  const release = hold("nine");
  type(field, "nine");
  fireEvent.keyDown(field, { key: "Enter" });
  go("ten");
  await screen.findByRole("button", { name: "Edit ten" });
  release();
  await waitFor(() => expect(expression()).toBe("ten AND nine"));
});

test("an invalid expression leaves the field when the address changes", async () => {
  invalid["bad("] = { at: 4, length: 0 };
  const field = await shown("");
  go("bad(");
  await waitFor(() => expect(field.value).toBe("bad("));
  go("good");
  await screen.findByRole("button", { name: "Edit good" });
  expect(field.value).toBe("");
  expect(screen.queryByRole("alert")).toBeNull();
});

test("an answer about an expression of before is ignored", async () => {
  invalid["late("] = { at: 5, length: 0 };
  const release = hold("late(");
  const field = await shown("");
  act(() => go("late("));
  go("fine");
  await screen.findByRole("button", { name: "Edit fine" });
  release();
  await answered("late(");
  expect(field.value).toBe("");
});

test("what is wrong is marked after characters that take more room", async () => {
  invalid["\u{1f600}\u200b usr=x"] = { at: 3, length: 3 };
  const field = await shown("");
  type(field, "\u{1f600}\u200b usr=x");
  fireEvent.keyDown(field, { key: "Enter" });
  await screen.findByRole("alert");
  expect(field.value.slice(field.selectionStart ?? 0, field.selectionEnd ?? 0)).toBe("usr");
});

test("a term that is written twice is shown once", async () => {
  await shown("twice AND twice AND other");
  expect(screen.getAllByRole("listitem")).toHaveLength(2);
});
