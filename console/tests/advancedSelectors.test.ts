import { describe, expect, test } from "vitest";
import {
  type AdvancedEventSelector,
  type AdvancedSelector,
  categoriesOf,
  concerns,
  conditionError,
  emptySelector,
  fromApi,
  fromBasic,
  isComplete,
  isRequired,
  nextCondition,
  RESOURCE_TYPES,
  rulesOf,
  selectSame,
  templatesFor,
  toApi,
  withCategory,
} from "../src/pages/advancedSelectors";
import { toBasic } from "../src/pages/trailChanges";
import { eventSelectors, START_SELECTION } from "../src/pages/trailPlan";
import cases from "./selectors.json";

const S3 = { field: "resources.type", operator: "Equals", values: ["AWS::S3::Object"] };
const NAMES = { field: "eventName", operator: "StartsWith", values: ["Put", "Delete"] };
const NOT_BY = { field: "userIdentity.arn", operator: "NotEndsWith", values: ["/cleaner"] };
const WRITES: AdvancedSelector = { name: "writes", category: "Data", conditions: [S3, NAMES, NOT_BY] };
const API: AdvancedEventSelector = {
  Name: "writes",
  FieldSelectors: [
    { Field: "eventCategory", Equals: ["Data"] },
    { Field: "resources.type", Equals: ["AWS::S3::Object"] },
    { Field: "eventName", StartsWith: ["Put", "Delete"] },
    { Field: "userIdentity.arn", NotEndsWith: ["/cleaner"] },
  ],
};

describe("selectors of the API", () => {
  test("are selectors of the form and back", () => {
    expect(toApi(WRITES)).toEqual(API);
    expect(fromApi(API)).toEqual(WRITES);
  });

  test("have the operators of a field together, and neither empty lines nor an empty name", () => {
    const not = { field: "eventName", operator: "NotEquals", values: ["PutObjectAcl", ""] };
    expect(toApi({ name: "", category: "Data", conditions: [S3, NAMES, not] })).toEqual({
      FieldSelectors: [...API.FieldSelectors.slice(0, 2), { Field: "eventName", StartsWith: ["Put", "Delete"], NotEquals: ["PutObjectAcl"] }],
    });
  });
});

describe("basic selectors as advanced ones", () => {
  test.each(cases)("select the same events: $of", ({ basic, advanced }) => expect(fromBasic(basic).map(toApi)).toEqual(advanced));
});

describe("advanced selectors as basic ones", () => {
  test("are the choices that select the same, in whatever order", () => {
    const choice = { management: "WriteOnly" as const, s3: true, lambda: true };
    const advanced = fromBasic(eventSelectors({ ...START_SELECTION, ...choice }));
    const turned = advanced.toReversed().map((selector) => ({ ...selector, name: "", conditions: selector.conditions.toReversed() }));
    expect(toBasic(turned)).toEqual(choice);
  });

  test("are none where basic ones cannot say it", () => {
    expect(toBasic([WRITES])).toBeNull();
    expect(toBasic(fromBasic(eventSelectors(START_SELECTION)).concat(WRITES))).toBeNull();
    expect(selectSame([WRITES], [{ ...WRITES, category: "Management" }])).toBe(false);
  });
});

describe("the form", () => {
  test("offers the fields and types of the server", () => {
    expect(Object.keys(rulesOf("Management"))).toEqual(["readOnly", "eventSource"]);
    expect(rulesOf("Management").eventSource).toMatchObject({ operators: ["NotEquals"], values: ["kms.amazonaws.com", "rdsdata.amazonaws.com"] });
    expect(RESOURCE_TYPES).toContain("AWS::DynamoDB::Table");
  });

  test("begins with what a category requires", () => {
    const empty = emptySelector("Data");
    expect(empty.conditions).toEqual([{ field: "resources.type", operator: "Equals", values: [] }]);
    expect(isRequired(empty, empty.conditions[0]!)).toBe(true);
    expect(isRequired({ ...empty, conditions: [S3, S3] }, S3)).toBe(false);
    expect(nextCondition(empty).field).toBe("readOnly");
  });

  test("keeps conditions with values when the category changes", () => {
    const network = withCategory({ ...WRITES, conditions: [...WRITES.conditions, { field: "eventType", operator: "Equals", values: [] }] }, "NetworkActivity");
    expect(network.conditions.map(({ field }) => field)).toEqual(["eventSource", "resources.type", "eventName", "userIdentity.arn"]);
    expect(withCategory(emptySelector("Data"), "Management").conditions).toEqual([]);
  });

  test("says what is missing", () => {
    const empty = { ...NAMES, values: ["", ""] };
    expect(conditionError(WRITES, empty)).toBe("Give a value.");
    expect(conditionError({ ...WRITES, conditions: [NAMES, { ...NAMES, values: ["Get"] }] }, NAMES)).toMatch("one condition");
    expect(isComplete([WRITES])).toBe(true);
    expect(isComplete([WRITES, { ...WRITES, conditions: [S3, empty] }])).toBe(false);
  });

  test("of a store has Insights events and more fields", () => {
    expect(categoriesOf("trail")).not.toContain("Insight");
    expect(categoriesOf("event data store")).toContain("Insight");
    expect(rulesOf("Management").eventName).toBeUndefined();
    expect(rulesOf("Management", "event data store").eventName?.operators).toContain("StartsWith");
    expect(withCategory({ ...WRITES, conditions: [{ ...NAMES, values: [] }] }, "Management", "event data store").conditions).toHaveLength(1);
  });

  const templates = (["trail", "event data store"] as const).flatMap((owner) => templatesFor(owner).map((template) => ({ owner, ...template })));
  test.each(templates)("of a $owner has a template that the rules allow: $text", ({ owner, selector }) => {
    expect(toApi(withCategory(selector, selector.category, owner))).toEqual(toApi(selector));
    for (const { field, operator, values } of selector.conditions) {
      const rule = rulesOf(selector.category, owner)[field];
      expect(rule?.operators).toContain(operator);
      if (rule?.values) expect(rule.values).toEqual(expect.arrayContaining(values));
    }
  });
});

describe("a message of the server", () => {
  test.each([
    ["Field eventName is not supported for Data events of a trail. Supported fields are x.", NAMES],
    ["Value Delete for eventName is in conflict: it is given for Equals and for NotEquals.", NAMES],
    ["Field eventName is not supported for Data events of a event data store. Supported fields are x.", NAMES],
    ["Operator StartsWith is not supported for eventName with Data events of a trail. Supported operators are x.", NAMES],
    ["StartsWith of eventName must have exactly one value, but 2 are given.", NAMES],
    ["Value AWS::S3::Ob… for resources.type is invalid. A resource type has the form AWS::S3::Object.", S3],
  ])("is about one condition: %s", (message, condition) => {
    expect(WRITES.conditions.filter((other) => concerns(message, "Data", other))).toEqual([condition]);
  });

  test.each([
    "Field eventName is not supported for Management events of a trail. Supported fields are x.",
    "Value Get for eventName is invalid with Data events of a trail. Valid values are x.",
    "Field eventSource is required in an event selector whose eventCategory is NetworkActivity.",
    "The conditions of all advanced event selectors have at most 500 values, but 501 are given.",
  ])("is about none of them: %s", (message) => {
    expect(WRITES.conditions.filter((other) => concerns(message, "Data", other))).toEqual([]);
  });
});
