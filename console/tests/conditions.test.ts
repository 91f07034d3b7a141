import { describe, expect, test } from "vitest";
import { finding, hasToken, naming, readConditions, textIn, toQuery, withoutToken, withToken } from "../src/filter/conditions";
import { toExpression, toFilter } from "../src/filter/expression";
import { fromShown, toShown } from "../src/filter/properties";
import { causeOf } from "../src/parts/emptyCause";

const NOW = Date.parse("2026-01-02T00:00:00Z");

describe("conditions in the address", () => {
  test("without any, events that only read are hidden, from all time", () => {
    expect(toQuery(readConditions(new URLSearchParams()), NOW)).toEqual({
      expression: "is:write",
      since: null,
      until: null,
      account: null,
      region: null,
      categories: null,
    });
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

describe("the filter as it is shown", () => {
  test.each(["is:write AND eventName=CreateUser", "NOT is:failure", "eventName=A OR (is:failure AND username=B)", "requestParameters.name=x", '"free text" AND NOT "other"'])(
    "%s is the same after a look",
    (text) => expect(toExpression(fromShown(toShown(toFilter(text))))).toBe(text),
  );

  test("Read-only = false is is:write", () => {
    expect(toShown(toFilter("is:write")).tokenGroups).toEqual([{ propertyKey: "readOnly", operator: "=", value: "false" }]);
    expect(toExpression(toFilter("NOT is:read"))).toBe("NOT is:read");
  });
});

describe("a value that is clicked", () => {
  test("is added with wildcards made literal", () => {
    expect(toExpression(withToken(toFilter("is:write"), "username", "a*b\\", true))).toBe('is:write AND username="a\\*b\\\\"');
    expect(finding("arn", "arn:aws:iam::1:user/x")).toBe("arn=arn:aws:iam::1:user/x");
  });

  test("does not loosen a filter of alternatives", () => {
    const filter = withToken(toFilter("eventName=A OR eventName=B"), "username", "Mary", false);
    expect(toExpression(filter)).toBe("(eventName=A OR eventName=B) AND username!=Mary");
  });

  test("is added once", () => {
    expect(toExpression(withToken(toFilter("username=Mary"), "username", "Mary", true))).toBe("username=Mary");
  });
});

describe("an empty page", () => {
  const nothing = { events: 5, newest: null, elsewhere: 0, removals: [], nearest: null };
  const likeness = { label: "user", value: "mary", nearest: "Mary", events: 4 };
  const removal = (label: string, count: number) => ({ label, count, filter: toFilter("") });

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
    ["Mary", "Mary"],
    ["is:write AND Mary", "Mary"],
    ['user=John AND "Mary Ann"', "Mary Ann"],
    ["Mary AND Ann", null],
    ["Mary OR Ann", null],
    ["NOT Mary", null],
    ["user=Mary", null],
  ])("of %s is %s", (expression, text) => expect(textIn(toFilter(expression))).toBe(text));

  test("becomes a name", () => {
    expect(toExpression(naming(toFilter("is:write AND Mary"), "Mary"))).toBe("is:write AND (resourceName=Mary OR username=Mary)");
  });
});

test("a value that was clicked for is taken away again", () => {
  const before = toFilter("is:write AND username=John");
  const filter = withToken(before, "username", "Mary", true);
  expect(hasToken(filter, "username", "Mary", true)).toBe(true);
  expect(hasToken(filter, "username", "Mary", false)).toBe(false);
  expect(toExpression(withoutToken(filter, "username", "Mary"))).toBe(toExpression(before));
  expect(hasToken(toFilter("username=Mary OR username=John"), "username", "Mary", true)).toBe(false);
});
