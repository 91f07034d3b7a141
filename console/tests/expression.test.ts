import { describe, expect, test } from "vitest";
import { allOf, anyOf, beginning, comparison, isField, words } from "../src/filter/expression";
import { lastWord } from "../src/filter/fields";
// The server's tests read what is written here, too.
import cases from "./expressions.json";

test.each(cases)("$field and $value are written as $written", ({ field, value, include, written }) => {
  expect(comparison(field, value, include)).toBe(written);
});

test("terms are joined", () => {
  expect(allOf("is:write", "", anyOf("a=1", "b=2"))).toBe("is:write AND (a=1 OR b=2)");
  expect(beginning("resourceName", 'a*"')).toBe('resourceName="a\\*\\"*"');
  expect(words('say "hi"')).toBe('"say \\"hi\\""');
});

test("fields and paths are known", () => {
  expect(["user", "eventName", "requestParameters.tags.aws\\:x"].every(isField)).toBe(true);
  expect(["usr", "requestParameters.", "requestParameter.x"].some(isField)).toBe(false);
});

describe("the word at the end of", () => {
  test.each([
    ["", { start: 0, field: null, operator: "", text: "" }],
    ["Mary", { start: 0, field: null, operator: "", text: "Mary" }],
    ["is:write us", { start: 9, field: null, operator: "", text: "us" }],
    ["user=Jo", { start: 0, field: "user", operator: "=", text: "Jo" }],
    ["NOT user != Jo", { start: 4, field: "user", operator: "!=", text: "Jo" }],
    ["(is:f", { start: 1, field: "is", operator: ":", text: "f" }],
    ['user="Mary A', { start: 0, field: "user", operator: "=", text: "Mary A" }],
    ["requestParameters.userName=M", { start: 0, field: "requestParameters.userName", operator: "=", text: "M" }],
    ["arn:aws:iam", { start: 0, field: "arn", operator: ":", text: "aws:iam" }],
  ])("%s is found", (typed, word) => expect(lastWord(typed)).toEqual(word));
});
