import { describe, expect, test } from "vitest";
import { type AdvancedEventSelector, fromApi, toApi } from "../src/pages/advancedSelectors";
import { asAdvanced, asBasic, changesOf, type Events, eventsError, eventsOf, formOf, selectorsOf } from "../src/pages/trailChanges";
import { eventSelectors, START_SELECTION } from "../src/pages/trailPlan";

const ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/audit";
const TRAIL = {
  Name: "audit",
  TrailARN: ARN,
  S3BucketName: "logs",
  S3KeyPrefix: "prod",
  IsMultiRegionTrail: true,
  LogFileValidationEnabled: true,
  KmsKeyId: "alias/trails",
  SnsTopicARN: "arn:aws:sns:us-east-1:123456789012:news",
};
const form = formOf(TRAIL);
const selection = START_SELECTION;
const events = eventsOf({ EventSelectors: eventSelectors(selection) }, []);

describe("the changes of a trail", () => {
  test("are none if nothing was changed", () => {
    expect(changesOf(ARN, { form, events }, { form, events })).toEqual([]);
  });

  test("have only what was changed, and remove what is empty", () => {
    const after = { ...form, bucket: "other", prefix: "", encrypt: false, notify: false, validation: false };
    expect(changesOf(ARN, { form, events }, { form: after, events })).toEqual([
      {
        operation: "UpdateTrail",
        input: { Name: ARN, S3BucketName: "other", S3KeyPrefix: "", EnableLogFileValidation: false, KmsKeyId: "", SnsTopicName: "" },
        text: "S3BucketName = other, no S3KeyPrefix, EnableLogFileValidation = false, no KmsKeyId, no SnsTopicName",
      },
    ]);
  });

  test("are calls for selectors where these differ", () => {
    const after = { ...events, selection: { ...selection, management: "WriteOnly" as const, errorRate: true } };
    const changes = changesOf(ARN, { form, events }, { form, events: after });
    expect(changes.map(({ operation }) => operation)).toEqual(["PutEventSelectors", "PutInsightSelectors"]);
    expect(changes[0]?.input).toEqual({ TrailName: ARN, EventSelectors: eventSelectors(after.selection) });
    expect(changes[1]?.input).toEqual({ TrailName: ARN, InsightSelectors: [{ InsightType: "ApiErrorRateInsight" }] });
    const off = changesOf(ARN, { form, events: after }, { form, events: { ...after, selection: { ...after.selection, errorRate: false } } });
    expect(off[0]?.input).toEqual({ TrailName: ARN, InsightSelectors: [] });
  });

  test("keep what the form does not show of Insights", () => {
    const stored = [{ InsightType: "ApiCallRateInsight", EventCategories: ["Data"] }];
    const before = eventsOf({ EventSelectors: eventSelectors(selection) }, stored);
    const after = { ...before, selection: { ...before.selection, errorRate: true } };
    const [change] = changesOf(ARN, { form, events: before }, { form, events: after });
    expect(change?.input).toEqual({ TrailName: ARN, InsightSelectors: [...stored, { InsightType: "ApiErrorRateInsight" }] });
  });

  test("are a call for advanced selectors, which names them", () => {
    const after = asAdvanced({ ...events, selection: { ...selection, s3: true } });
    expect(changesOf(ARN, { form, events }, { form, events: after })).toEqual([
      {
        operation: "PutEventSelectors",
        input: { TrailName: ARN, AdvancedEventSelectors: after.advanced.map(toApi) },
        text: "advanced event selectors: Management events, Data events of AWS::S3::Object",
      },
    ]);
  });

  test("are none after advanced selectors were looked at", () => {
    expect(changesOf(ARN, { form, events }, { form, events: asBasic(asAdvanced(events)) })).toEqual([]);
  });
});

const basic = { ReadWriteType: "All", IncludeManagementEvents: true, DataResources: [], ExcludeManagementEventSources: [] };
const COMPLEX = [
  ["several", [basic, basic]],
  ["one bucket", [{ ...basic, DataResources: [{ Type: "AWS::S3::Object", Values: ["arn:aws:s3:::logs/"] }] }]],
  ["other types", [{ ...basic, DataResources: [{ Type: "AWS::DynamoDB::Table", Values: ["arn:aws:dynamodb"] }] }]],
  ["excluded sources", [{ ...basic, ExcludeManagementEventSources: ["kms.amazonaws.com"] }]],
] as const;
const ONE_USER: AdvancedEventSelector = {
  Name: "Mary's",
  FieldSelectors: [
    { Field: "eventCategory", Equals: ["Data"] },
    { Field: "resources.type", Equals: ["AWS::S3::Object"] },
    { Field: "userIdentity.arn", EndsWith: ["/Mary"] },
  ],
};

describe("the basic selectors of a trail", () => {
  test.each([
    [{ management: "All" as const }],
    [{ management: "WriteOnly" as const }],
    [{ management: "WriteOnly" as const, s3: true }],
    [{ management: "None" as const, s3: true }],
    [{ management: "All" as const, s3: true, lambda: true }],
  ])("are what the form made of %j", (choice) => {
    const made = { ...selection, ...choice };
    const shown = eventsOf({ EventSelectors: eventSelectors(made) }, [{ InsightType: "ApiCallRateInsight" }]);
    expect(shown).toMatchObject({ kind: "basic", keepsComplex: false, selection: { ...made, callRate: true } });
    expect(asBasic(asAdvanced(shown))).toMatchObject({ kind: "basic", replaces: false, selection: shown.selection });
  });

  test.each(COMPLEX)("stay as they are if the form cannot show them: %s", (_, selectors) => {
    const shown = eventsOf({ EventSelectors: [...selectors] as never }, []);
    expect(selectorsOf(shown)).toEqual({ EventSelectors: selectors });
    const advanced = asAdvanced(shown);
    expect(selectorsOf(asBasic(advanced))).toEqual({ EventSelectors: selectors });
    const more = asBasic({ ...advanced, advanced: [...advanced.advanced, fromApi(ONE_USER)] });
    expect(more).toMatchObject({ keepsComplex: false, replaces: true });
    expect(selectorsOf(asBasic({ ...asAdvanced(more), advanced: advanced.advanced }))).toEqual({ EventSelectors: selectors });
  });
});

describe("the advanced selectors of a trail", () => {
  const shown = eventsOf({ AdvancedEventSelectors: [ONE_USER] }, []);

  test("are shown as they are", () => {
    expect(shown.kind).toBe("advanced");
    expect(selectorsOf(shown)).toEqual({ AdvancedEventSelectors: [ONE_USER] });
  });

  test("are replaced by basic ones that cannot select the same, and come back", () => {
    const replaced = asBasic(shown);
    expect(replaced).toMatchObject({ kind: "basic", replaces: true, selection: { management: "All", s3: false } });
    expect(selectorsOf(asAdvanced(replaced))).toEqual({ AdvancedEventSelectors: [ONE_USER] });
  });

  test("keep their names where basic ones select the same", () => {
    const all = { Name: "all of it", FieldSelectors: [{ Field: "eventCategory", Equals: ["Management"] }] };
    const back = asAdvanced(asBasic(eventsOf({ AdvancedEventSelectors: [all] }, [])));
    expect(selectorsOf(back)).toEqual({ AdvancedEventSelectors: [all] });
  });

  const reads = { name: "", category: "Management", conditions: [{ field: "readOnly", operator: "Equals", values: ["true"] }] };
  test.each<[string, Partial<Events>, RegExp | null]>([
    ["nothing", { advanced: [] }, /deliver nothing/],
    ["data events with Insights", { selection: { ...selection, errorRate: true } }, /management events/],
    ["reads with the call rate", { advanced: [reads], selection: { ...selection, callRate: true } }, /write events/],
    ["reads with the error rate", { advanced: [reads], selection: { ...selection, errorRate: true } }, null],
  ])("may not be enough: %s", (_, part, words) => {
    const error = eventsError({ ...shown, ...part });
    if (words) expect(error).toMatch(words);
    else expect(error).toBeNull();
  });
});
