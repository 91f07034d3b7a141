import Icon from "@cloudscape-design/components/icon";
import { type MouseEvent, type ReactNode, useState } from "react";
import { get, type Query } from "../api/client";
import type { Gate } from "../api/gate";
import type { ValueCount } from "../api/types";
import { useCall } from "../api/useCall";
import { hasToken, setFilter, withoutToken, withToken } from "../filter/conditions";
import type { Filter } from "../filter/expression";
import { number } from "../text/time";
import { visible } from "../text/visible";
import { Problem } from "./Problem";

interface Group {
  /** The server's name of the values. */
  name: string;
  /** The field of expressions. */
  field: string;
  label: string;
  /** Not counted until it is opened. */
  isClosed?: boolean;
}

const GROUPS: readonly Group[] = [
  { name: "username", field: "username", label: "User" },
  { name: "eventName", field: "eventName", label: "Event" },
  { name: "eventSource", field: "eventSource", label: "Service" },
  { name: "region", field: "awsRegion", label: "Region" },
  { name: "errorCode", field: "errorCode", label: "Error" },
  { name: "sourceIpAddress", field: "sourceIPAddress", label: "Source IP", isClosed: true },
  { name: "resourceType", field: "resourceType", label: "Resource type", isClosed: true },
  { name: "account", field: "recipientAccountId", label: "Account", isClosed: true },
];
const FEW = 5;

interface Props {
  query: Query;
  /** Opens when the rows of the query are there. */
  rows: Gate;
  filter: Filter;
}

/** The most frequent values of the whole result: a click searches for one, with Alt it excludes it. */
export default function Facets({ query, rows, filter }: Props): ReactNode {
  const [opened, setOpened] = useState<readonly string[]>([]);
  const open = GROUPS.filter(({ name, isClosed }) => !isClosed || opened.includes(name));
  const fields = open.map(({ name }) => name).join(",");
  const { data, error, loading, reload } = useCall(
    (signal) => rows.opened.then(() => get<{ facets: Record<string, ValueCount[]> }>("events/facets", { ...query, fields }, signal)),
    [query, fields],
  );
  return (
    <aside className={loading && data ? "facets dimmed" : "facets"} aria-label="Facets">
      <Problem error={error} what="The values could not be counted" onRetry={reload} />
      {GROUPS.map((group) => (
        <div key={group.name} role="group" aria-labelledby={`facet-${group.name}`}>
          <h2 id={`facet-${group.name}`}>
            {open.includes(group) ? (
              group.label
            ) : (
              <button type="button" onClick={() => setOpened([...opened, group.name])}>
                <Icon name="caret-right-filled" size="small" /> {group.label}
              </button>
            )}
          </h2>
          {open.includes(group) && <Values group={group} values={data?.facets[group.name] ?? []} filter={filter} />}
        </div>
      ))}
    </aside>
  );
}

function Values({ group, values, filter }: { group: Group; values: ValueCount[]; filter: Filter }): ReactNode {
  const [isWhole, setWhole] = useState(false);
  const isChosen = ({ value }: ValueCount): boolean => hasToken(filter, group.field, value, true);
  const sorted = [...values.filter(isChosen), ...values.filter((value) => !isChosen(value))];
  const most = Math.max(...values.map(({ count }) => count), 1);
  if (!values.length) return <p>None</p>;
  return (
    <>
      {sorted.slice(0, isWhole ? sorted.length : FEW).map((item) => (
        <Value key={item.value} group={group} item={item} share={item.count / most} filter={filter} isChosen={isChosen(item)} />
      ))}
      {sorted.length > FEW && (
        <button type="button" className="facet-more" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Fewer" : `${sorted.length - FEW} more`}
          <span className="hidden"> of {group.label}</span>
        </button>
      )}
    </>
  );
}

interface ValueProps {
  group: Group;
  item: ValueCount;
  share: number;
  filter: Filter;
  isChosen: boolean;
}

function Value({ group, item, share, filter, isChosen }: ValueProps): ReactNode {
  const { value, count } = item;
  const text = visible(value) || "(empty)";
  const pick = (event: MouseEvent): void => {
    if (event.altKey) setFilter(withToken(filter, group.field, value, false));
    else setFilter(isChosen ? withoutToken(filter, group.field, value) : withToken(filter, group.field, value, true));
  };
  return (
    <div className="facet">
      <i style={{ inlineSize: `${Math.max(100 * share, 1)}%` }} />
      <button type="button" className="facet-value" aria-pressed={isChosen} title={`${text}\nClick: only these. Alt+click: without these.`} onClick={pick}>
        {text}
      </button>
      <button
        type="button"
        className="facet-exclude"
        aria-label={`Without ${group.label} ${text}`}
        title={`Without ${text}`}
        onClick={() => setFilter(withToken(filter, group.field, value, false))}
      >
        <Icon name="subtract-minus" size="small" />
      </button>
      <span className="numbers">{number(count)}</span>
    </div>
  );
}
