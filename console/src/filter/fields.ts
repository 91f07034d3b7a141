/** The fields that the filter suggests, with their names in AWS's Event history. */

export interface Field {
  name: string;
  label: string;
  /** The values, if they are few and known. */
  values?: string[];
}

export const CATEGORY = "eventCategory";

export const FIELDS: readonly Field[] = [
  { name: "eventName", label: "Event name" },
  { name: "username", label: "User name" },
  { name: "eventSource", label: "Event source" },
  { name: "resourceName", label: "Resource name" },
  { name: "resourceType", label: "Resource type" },
  { name: "is", label: "Result or kind", values: ["failure", "success", "write", "read"] },
  { name: "sourceIPAddress", label: "Source IP address" },
  { name: "errorCode", label: "Error code" },
  { name: "awsRegion", label: "AWS Region" },
  { name: "recipientAccountId", label: "Account" },
  { name: "arn", label: "Principal ARN" },
  { name: "accessKeyId", label: "AWS access key" },
  { name: CATEGORY, label: "Event category", values: ["Management", "Data", "Insight", "NetworkActivity", "ActivityAuditLog"] },
  { name: "eventID", label: "Event ID" },
  { name: "userAgent", label: "User agent" },
  { name: "agent", label: "Agent" },
  { name: "requestID", label: "Request ID" },
  { name: "requestParameters.", label: "Member of the request" },
];

/** The fields to search for values when the user types text without a field. */
export function searchedFor(text: string): string[] {
  if (/^arn:/i.test(text)) return ["arn", "resourceName"];
  const keys = /^A[KS]IA/i.test(text) ? ["accessKeyId"] : [];
  return [...keys, "eventName", "username", "resourceName", "eventSource"];
}

/** The last typed word, with the caret at its end. */
export interface Word {
  start: number;
  /** The field or path before the operator; null without an operator. */
  field: string | null;
  operator: string;
  /** The text after the operator, or the whole word. */
  text: string;
}

const LAST_WORD = /(?:([A-Za-z][\w.-]*)\s*(!=|=|:)\s*)?("(?:[^"\\]|\\.)*"?|[^\s"()]*)$/;

export function lastWord(typed: string): Word {
  const [whole = "", field, operator = "", text = ""] = LAST_WORD.exec(typed) ?? [];
  return { start: typed.length - whole.length, field: field ?? null, operator, text: text.replace(/^"|"$/g, "") };
}
