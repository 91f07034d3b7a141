import { expect, test } from "vitest";
import { resourcesIn } from "../src/api/resources";
import type { Event } from "../src/api/types";
import { AN_EVENT } from "./factories";

const USER = "AWS::IAM::User";
const ARN = "arn:aws:iam::123456789012:user/team/Mary";
const ID = "AIDACKCEVSQ6C2EXAMPLE";

function event(eventId: string, ...names: [string | null, string][]): Event {
  return { ...AN_EVENT, eventId, resources: names.map(([type, name]) => ({ type, name })) };
}

function listed(...events: Event[]): unknown[] {
  return resourcesIn(events).map(({ name, type, aliases, latest }) => [name, type, aliases, latest.eventId]);
}

test("a resource is listed once, with its ARN and its id as aliases, by its newest event", () => {
  const found = listed(event("2", [USER, "Mary"]), event("1", [USER, ARN], [USER, "Mary"], [USER, ID]));
  expect(found).toEqual([["Mary", USER, [ARN, ID], "2"]]);
});

test("an ARN whose name is in no event is listed as it is", () => {
  expect(listed(event("1", [USER, ARN]))).toEqual([[ARN, USER, [], "1"]]);
});

test("an id beside several names is not said to be of one of them", () => {
  const found = listed(event("1", [USER, "Mary"], [USER, "John"], [USER, ID]));
  expect(found.map((row) => (row as unknown[])[0])).toEqual(["Mary", "John", ID]);
});

test("a name without a type is that of the other events", () => {
  expect(listed(event("2", [null, "Mary"]), event("1", [USER, "Mary"]))).toEqual([["Mary", USER, [], "2"]]);
});

test("resources of different types with the same name are different", () => {
  const found = listed(event("1", ["AWS::S3::Bucket", "audit"], ["AWS::CloudTrail::Trail", "audit"]));
  expect(found).toEqual([
    ["audit", "AWS::S3::Bucket", [], "1"],
    ["audit", "AWS::CloudTrail::Trail", [], "1"],
  ]);
});
