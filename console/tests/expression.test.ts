import fc from "fast-check";
import { describe, expect, test } from "vitest";
import cases from "./expressions.json";
import written from "./written.json";
import { type Filter, type Group, isGroup, literal, type Token, toExpression, toFilter } from "../src/filter/expression";
import { fromShown, toShown } from "../src/filter/properties";
import { visible } from "../src/text/visible";

const awkward = fc.oneof(
  fc.string({ minLength: 1, maxLength: 8, unit: "binary" }),
  fc.string({ minLength: 1, maxLength: 8, unit: fc.constantFrom(..."ab\\\"*?()=<>!:, .") }),
  fc.constantFrom("AND", "OR", "NOT", "IN", "and", "or", "Not", "in", "last", "arn:aws:iam::1:user/x", "10.0.0.0/8", "\u202e"),
);
const field = fc.constantFrom("eventName", "username", "awsRegion", "requestParameters.bucketName", "userAgent");
/** A pattern as the reader of expressions leaves it. */
const patterns = awkward.map(literal);
const token: fc.Arbitrary<Token> = fc.oneof(
  fc.record({ propertyKey: field, operator: fc.constantFrom("=", "!="), value: patterns }),
  fc.record({ propertyKey: field, operator: fc.constantFrom(":", "!:", "^", "!^", ">", "<="), value: awkward }),
  fc.record({ propertyKey: fc.constant("is"), operator: fc.constantFrom("=", "!="), value: fc.constantFrom("failure", "write") }),
  fc.record({ operator: fc.constantFrom(":", "!:"), value: awkward }),
);
const operation = fc.constantFrom("and" as const, "or" as const);

/** A group of the same kind as its filter, or of one token, is not distinguishable and not needed. */
const filters: fc.Arbitrary<Filter> = operation.chain((outer) => {
  const inner = outer === "and" ? "or" : "and";
  const group: fc.Arbitrary<Group> = fc
    .array(token, { minLength: 2, maxLength: 3 })
    .map((tokens) => ({ operation: inner, tokens }));
  return fc
    .array(fc.oneof(token, group), { maxLength: 4 })
    .filter((parts) => parts.length !== 1 || !isGroup(parts[0] as Token))
    .map((tokens) => ({ operation: tokens.length > 1 ? outer : ("and" as const), tokens }));
});

describe("expressions and filters", () => {
  test("a filter survives the address bar", () => {
    fc.assert(
      fc.property(filters, (filter) => {
        const address = new URLSearchParams({ expression: toExpression(filter) }).toString();
        expect(toFilter(new URLSearchParams(address).get("expression") ?? "")).toEqual(filter);
      }),
      { numRuns: 2_000 },
    );
  });

  test("what the filter shows has no hidden characters, and is read back", () => {
    fc.assert(
      fc.property(filters, (filter) => {
        const query = toShown(filter);
        const parts = (query.tokenGroups ?? []).flatMap((part) => ("tokens" in part ? part.tokens : [part]));
        const values = parts.map((part) => ("value" in part ? String(part.value) : ""));
        expect(values.map(visible)).toEqual(values);
        // A text that has such an escape itself is read as the character.
        fc.pre(!values.some((value) => value.includes("\\\\u")));
        // Some filters have several forms; the filter shows one of them.
        const read = fromShown(query);
        expect(fromShown(toShown(read))).toEqual(read);
      }),
      { numRuns: 500 },
    );
    const token = { propertyKey: "username", operator: "=" as const, value: "a\u202eb\u{e0001}" };
    expect(fromShown(toShown({ operation: "and", tokens: [token] })).tokens).toEqual([token]);
  });

  test("what the filter cannot express remains whole", () => {
    for (const [text, written = text] of [
      ["eventName=A OR (user=B AND NOT (ip=10.0.0.0/8 OR last 2h))"],
      ["((a OR (b AND c)) AND d) OR eventName=x", "((a OR (b AND c)) AND d) OR eventName=x"],
      ["NOT (a b)"],
      ["(last 2h)", "last 2h"],
      ["time>2020-01-01"],
      ["user=("],
    ] as const) {
      const once = toExpression(toFilter(text));
      expect([once, toExpression(toFilter(once))]).toEqual([once, once]);
      expect(once).toBe(written);
    }
  });

  // That both forms find the same events is tested with the server's event stores.
  test("every operator in every case, with every kind of value, is written in one form", () => {
    expect(written.map(([read = ""]) => [read, toExpression(toFilter(read))])).toEqual(written);
  });

  // The server's parser is tested with the same cases.
  test.each(cases)("$read is read, and written as $written", ({ read, tokens, written }) => {
    expect(toFilter(read)).toEqual({ operation: "and", tokens });
    expect(toExpression({ operation: "and", tokens: tokens as Filter["tokens"] })).toBe(written);
  });
});
