import Box from "@cloudscape-design/components/box";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import { get, type Query } from "../api/client";
import type { ValueCount } from "../api/types";
import { useCall } from "../api/useCall";
import { setFilter, withToken } from "../filter/conditions";
import type { Filter } from "../filter/expression";
import { labelOf } from "../filter/properties";
import { number } from "../text/time";
import { visible } from "../text/visible";
import { Problem } from "./Problem";

/** Name of a facet → the field of expressions. */
const FIELDS: Record<string, string> = {
  eventName: "eventName",
  username: "username",
  eventSource: "eventSource",
  region: "awsRegion",
  sourceIp: "sourceIPAddress",
  errorCode: "errorCode",
  resourceType: "resourceType",
  account: "recipientAccountId",
};
const MAX_VALUES = 6;

export default function Breakdown({ query, filter }: { query: Query; filter: Filter }): ReactNode {
  const fields = Object.keys(FIELDS).join(",");
  const { data, error, reload } = useCall(
    (signal) => get<{ facets: Record<string, ValueCount[]> }>("events/facets", { ...query, fields }, signal),
    [query],
  );
  if (!data) return error ? <Problem error={error} what="The values could not be counted" onRetry={reload} /> : <Spinner />;
  return (
    <ColumnLayout columns={4} minColumnWidth={220}>
      {Object.entries(FIELDS).map(([facet, field]) => (
        <div key={facet}>
          <Box variant="h3">{labelOf(field)}</Box>
          <ValueList
            values={(data.facets[facet] ?? []).slice(0, MAX_VALUES)}
            onPick={(value) => setFilter(withToken(filter, field, value, true))}
          />
        </div>
      ))}
    </ColumnLayout>
  );
}

/** Values with their counts and a bar of their share; a click on one searches for it. */
export function ValueList({ values, onPick }: { values: ValueCount[]; onPick?: (value: string) => void }): ReactNode {
  const most = Math.max(...values.map(({ count }) => count), 1);
  if (!values.length) return <Box color="text-body-secondary">None</Box>;
  return (
    <>
      {values.map(({ value, count }) => (
        <div key={value}>
          <div className="value">
            <span className="wrap">
              {onPick ? (
                <button type="button" className="plain" onClick={() => onPick(value)}>
                  {visible(value) || "(empty)"}
                </button>
              ) : (
                visible(value) || "(empty)"
              )}
            </span>
            <span className="numbers">{number(count)}</span>
          </div>
          <span className="proportion" style={{ width: `${Math.max((100 * count) / most, 1)}%` }} />
        </div>
      ))}
    </>
  );
}
