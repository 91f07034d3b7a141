import { describe, expect, test } from "vitest";
import { changesOf, formOf, selectionOf } from "../src/pages/trailChanges";
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

describe("the changes of a trail", () => {
  test("are none if nothing was changed", () => {
    expect(changesOf(ARN, { form, selection }, { form, selection })).toEqual([]);
  });

  test("have only what was changed, and remove what is empty", () => {
    const after = { ...form, bucket: "other", prefix: "", encrypt: false, notify: false, validation: false };
    expect(changesOf(ARN, { form, selection }, { form: after, selection })).toEqual([
      {
        operation: "UpdateTrail",
        input: { Name: ARN, S3BucketName: "other", S3KeyPrefix: "", EnableLogFileValidation: false, KmsKeyId: "", SnsTopicName: "" },
        text: "S3BucketName = other, no S3KeyPrefix, EnableLogFileValidation = false, no KmsKeyId, no SnsTopicName",
      },
    ]);
  });

  test("are calls for selectors where these differ", () => {
    const after = { ...selection, management: "WriteOnly" as const, errorRate: true };
    const changes = changesOf(ARN, { form, selection }, { form, selection: after });
    expect(changes.map(({ operation }) => operation)).toEqual(["PutEventSelectors", "PutInsightSelectors"]);
    expect(changes[0]?.input).toEqual({ TrailName: ARN, EventSelectors: eventSelectors(after) });
    expect(changes[1]?.input).toEqual({ TrailName: ARN, InsightSelectors: [{ InsightType: "ApiErrorRateInsight" }] });
    const off = changesOf(ARN, { form, selection: after }, { form, selection: { ...after, errorRate: false } });
    expect(off[0]?.input).toEqual({ TrailName: ARN, InsightSelectors: [] });
  });

  test("leave selectors alone that the form cannot show", () => {
    expect(changesOf(ARN, { form, selection: null }, { form, selection: null })).toEqual([]);
  });
});

describe("the selectors of a trail", () => {
  const basic = { ReadWriteType: "All", IncludeManagementEvents: true, DataResources: [] };

  test.each([
    [{ management: "All" as const }],
    [{ management: "WriteOnly" as const }],
    [{ management: "WriteOnly" as const, s3: true }],
    [{ management: "None" as const, s3: true }],
    [{ management: "All" as const, s3: true, lambda: true }],
  ])("are what the form made of %j", (choice) => {
    const made = { ...selection, ...choice };
    expect(selectionOf({ EventSelectors: eventSelectors(made) }, [])).toEqual(made);
  });

  test("have Insights", () => {
    expect(selectionOf({ EventSelectors: [basic] }, ["ApiCallRateInsight"])).toEqual({ ...selection, callRate: true });
  });

  test.each([
    ["advanced ones", { AdvancedEventSelectors: [{}] }],
    ["several", { EventSelectors: [basic, basic] }],
    ["one bucket", { EventSelectors: [{ ...basic, DataResources: [{ Type: "AWS::S3::Object", Values: ["arn:aws:s3:::logs/"] }] }] }],
    ["other types", { EventSelectors: [{ ...basic, DataResources: [{ Type: "AWS::DynamoDB::Table", Values: ["arn:aws:dynamodb"] }] }] }],
    ["excluded sources", { EventSelectors: [{ ...basic, ExcludeManagementEventSources: ["kms.amazonaws.com"] }] }],
  ])("may say more than the form: %s", (_, selectors) => expect(selectionOf(selectors, [])).toBeNull());
});
