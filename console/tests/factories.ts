import type { Event } from "../src/api/types";

const CLAUSE = "IAM user John created IAM user Mary";

/** An event as the server sends it: IAM user John creates IAM user Mary. */
export const AN_EVENT: Event = {
  eventId: "e-1",
  eventTime: "2020-01-01T09:00:00Z",
  eventName: "CreateUser",
  eventSource: "iam.amazonaws.com",
  region: "us-east-1",
  account: "123456789012",
  category: "Management",
  readOnly: false,
  username: "John",
  principalType: "IAMUser",
  arn: null,
  accessKeyId: null,
  sourceIp: null,
  userAgent: null,
  errorCode: null,
  requestId: null,
  mfa: null,
  resources: [],
  sentence: CLAUSE,
  clause: CLAUSE,
  parts: [{ kind: "verb", text: CLAUSE }],
  method: null,
  agent: null,
};
