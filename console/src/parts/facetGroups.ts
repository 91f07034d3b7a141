/** The groups of values that facets count, in order. */

export interface Group {
  /** The server's name of the values. */
  name: string;
  /** The field of expressions. */
  field: string;
  label: string;
  /** Not counted until it is opened. */
  isClosed?: boolean;
  /** Shown only if an event on the page has a value. */
  isRare?: boolean;
}

export const GROUPS: readonly Group[] = [
  { name: "username", field: "username", label: "User" },
  { name: "eventName", field: "eventName", label: "Event" },
  { name: "eventSource", field: "eventSource", label: "Service" },
  { name: "region", field: "awsRegion", label: "Region" },
  { name: "errorCode", field: "errorCode", label: "Error" },
  { name: "sourceIpAddress", field: "sourceIPAddress", label: "Source IP", isClosed: true },
  { name: "agent", field: "agent", label: "Agent", isClosed: true, isRare: true },
  { name: "resourceType", field: "resourceType", label: "Resource type", isClosed: true },
  { name: "account", field: "recipientAccountId", label: "Account", isClosed: true },
];

/** The server's names of the open groups, which it counts. */
export function openGroups(opened: readonly string[]): string[] {
  return GROUPS.filter(({ name, isClosed }) => !isClosed || opened.includes(name)).map(({ name }) => name);
}
