import { describe, expect, test } from "vitest";
import type { Term } from "../src/api/types";
import { hasValue, naming, NO_RANGE, rangeSince, readConditions, textIn, toQuery, withoutValue, withValue } from "../src/filter/conditions";
import { causeOf } from "../src/parts/emptyCause";

const NOW = Date.parse("2026-01-02T00:00:00Z");

describe("conditions in the address", () => {
  test("without any, events that only read are hidden, from the last 24 hours", () => {
    expect(toQuery(readConditions(new URLSearchParams()), NOW)).toEqual({
      expression: "is:write",
      since: "2026-01-01T00:00:00Z",
      until: null,
      account: null,
      region: null,
      categories: null,
    });
  });

  test.each(["expression=Mary", "last=all", "expression=Mary&last=all"])("%s is of all time", (query) => {
    const { range, isAuto, ignored } = readConditions(new URLSearchParams(query));
    expect([range, isAuto, ignored]).toEqual([NO_RANGE, false, []]);
  });

  test("a filter keeps the range that nobody chose", () => {
    const { range, isAuto } = readConditions(new URLSearchParams("expression=Mary&last=auto"));
    expect([range.last, isAuto]).toEqual(["1d", true]);
  });

  test("the range is as long as the newest event needs", () => {
    const lengths = ["1d", "7d", "30d"];
    expect(rangeSince("2025-12-31T23:00:00Z", lengths, NOW).last).toBe("7d");
    expect(rangeSince("2025-12-10T00:00:00Z", lengths, NOW).last).toBe("30d");
    expect(rangeSince("2020-01-01T09:00:00Z", lengths, NOW)).toEqual(NO_RANGE);
  });

  test("a relative range is counted back from now", () => {
    const { since, until } = toQuery(readConditions(new URLSearchParams("last=1d&until=2020-01-01")), NOW);
    expect([since, until]).toEqual(["2026-01-01T00:00:00Z", null]);
  });

  test("invalid parts are ignored and named", () => {
    const { ignored, range } = readConditions(new URLSearchParams("last=soon&since=x&until=2020-01-01"));
    expect(ignored).toEqual(["last=soon", "since=x"]);
    expect(range).toEqual({ last: null, since: null, until: "2020-01-01" });
  });
});

const equals = (field: string, value: string, operator: "=" | "!=" = "="): Term => ({ text: `${field}${operator}${value}`, field, operator, value });
const text = (value: string): Term => ({ text: value, field: null, operator: null, value });
const WRITE: Term = { text: "is:write", field: null, operator: null, value: null };

describe("a value that is clicked", () => {
  test("is added with wildcards made literal", () => {
    expect(withValue("", "username", "a*b\\", true)).toBe('username="a\\*b\\\\"');
  });

  test("does not loosen a filter of alternatives", () => {
    expect(withValue("eventName=A OR eventName=B", "username", "Mary", false)).toBe("(eventName=A OR eventName=B) AND username!=Mary");
  });

  test("is found and taken away by any name of its field", () => {
    const terms = [WRITE, { ...equals("username", "Mary"), text: "user = Mary" }, equals("username", "Eve", "!=")];
    expect(hasValue(terms, "username", "Mary", true)).toBe(true);
    expect(hasValue(terms, "username", "Mary", false)).toBe(false);
    expect(hasValue(terms, "username", "Eve", false)).toBe(true);
    expect(withoutValue(terms, "username", "Mary")).toBe("is:write AND username!=Eve");
  });
});

describe("an empty page", () => {
  const nothing = { events: 5, newest: null, elsewhere: 0, removals: [], nearest: null };
  const likeness = { label: "user", value: "mary", nearest: "Mary", events: 4 };
  const removal = (label: string, count: number) => ({ label, count, expression: "" });

  test.each([
    ["no event ever", { ...nothing, events: 0, newest: "2020" }, { kind: "never" }],
    ["a value that no event has", { ...nothing, nearest: likeness, removals: [removal("a", 1)] }, { kind: "value", likeness }],
    ["the range", { ...nothing, newest: "2020", removals: [removal("a", 1)] }, { kind: "range", newest: "2020" }],
    ["account and Region", { ...nothing, elsewhere: 3 }, { kind: "scope" }],
    ["the filter", { ...nothing, removals: [removal("a", 1), removal("b", 7)] }, { kind: "filter", removal: removal("b", 7) }],
    ["none of these", { ...nothing, removals: [removal("a", 0)] }, { kind: "nothing" }],
  ])("is explained by %s", (_, findings, cause) => expect(causeOf(findings)).toEqual(cause));
});

describe("a text that is searched for", () => {
  test.each([
    ["a text", [text("Mary")], "Mary"],
    ["a text beside others", [WRITE, text("Mary Ann"), equals("username", "John")], "Mary Ann"],
    ["two texts", [text("Mary"), text("Ann")], null],
    ["no text", [WRITE, equals("username", "Mary")], null],
  ])("of %s", (_, terms, found) => expect(textIn(terms)).toBe(found));

  test("becomes a name", () => {
    expect(naming([WRITE, text("Mary")], "Mary")).toBe("is:write AND (resourceName=Mary OR username=Mary)");
  });
});
