import { fireEvent, render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import fc from "fast-check";
import { indented, leaves, parseJson } from "../src/parts/json";
import { JsonTree } from "../src/parts/JsonTree";
import { visible } from "../src/text/visible";

test("integers above 2^53 keep their digits", () => {
  render(<JsonTree text='{"a":{"big":12345678901234567890,"tiny":1e-400,"twice":1,"twice":2}}' />);
  expect(screen.getByText("12345678901234567890")).toBeTruthy();
  expect(screen.getByText("1e-400")).toBeTruthy();
  expect(screen.getAllByText(/^twice/)).toHaveLength(2);
});

test("bidirectional and invisible characters are shown as escapes, markup as text", () => {
  const text = JSON.stringify({ "ke\u202ey": "gnp.\u202Eexe\u200b\u{e0041}<img src=x onerror=alert(1)>\u0007" });
  const { container } = render(<JsonTree text={text} />);
  expect(container.textContent).toContain('"gnp.\\u202eexe\\u200b\\u{e0041}<img src=x onerror=alert(1)>\\u0007"');
  expect(container.textContent).toContain("ke\\u202ey");
  expect(container.querySelector("img")).toBeNull();
});

test("what visible returns has no hidden characters left", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(visible(text)).not.toMatch(/[\p{Cc}\p{Bidi_Control}\u200b-\u200d\u2060\ufeff\u2028\u2029]/u);
      expect(visible(visible(text))).toBe(visible(text));
    }),
  );
});

test("any JSON is read as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(JSON.parse(indented(parseJson(text)))).toEqual(JSON.parse(text));
    }),
  );
});

test("deep nesting and cut texts are shown, not thrown", () => {
  const deep = "[".repeat(50_000) + "]".repeat(50_000);
  render(<JsonTree text={deep} />);
  const { container } = render(<JsonTree text={'{"a":'} />);
  expect(container.textContent).toBe('{"a":');
});

test("a record of 256 kB renders only what is open", () => {
  const items = Array.from({ length: 8_000 }, (_, index) => ({ instanceId: `i-${index}` }));
  const { container } = render(<JsonTree text={JSON.stringify({ responseElements: { deep: { items } } })} />);
  expect(container.querySelectorAll("li").length).toBeLessThan(10);
  fireEvent.click(screen.getByRole("button", { name: /items/ }));
  expect(container.querySelectorAll("li").length).toBeLessThan(400);
});

test("a value is picked with its path", () => {
  const onPick = vi.fn();
  render(<JsonTree text='{"requestParameters":{"tags":[{"a.b":"x"}]}}' onPick={onPick} />);
  fireEvent.click(screen.getAllByRole("button", { expanded: false }).at(-1) as HTMLElement);
  fireEvent.click(screen.getByRole("button", { name: /Search for/ }));
  expect(onPick).toHaveBeenCalledWith("requestParameters.tags.a\\.b", "x");
});

test("values of a record have paths", () => {
  expect(leaves(parseJson('{"a":[1,{"b":null}]}'))).toEqual([["a.0", "1"], ["a.1.b", "null"]]);
});
