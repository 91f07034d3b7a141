import Icon from "@cloudscape-design/components/icon";
import { type MouseEvent, type ReactNode, useState } from "react";
import type { SearchOverview, Term, ValueCount } from "../api/types";
import { hasValue, setExpression, withoutValue, withValue } from "../filter/conditions";
import { number } from "../text/time";
import { visible } from "../text/visible";
import { type Group, GROUPS } from "./facetGroups";

const FEW = 5;

interface Props {
  /** The most frequent values of open groups; null until they are counted. */
  values: SearchOverview["facets"] | null;
  /** Whether the values belong to the previous search. */
  isCounting: boolean;
  /** Names of the open groups. */
  open: readonly string[];
  onOpen: (name: string) => void;
  expression: string;
  terms: readonly Term[];
  /** Whether agents made some of the visible events. */
  hasAgents: boolean;
}

/** The most frequent values of the whole result. A click searches for a value; with Alt, it excludes it. */
export default function Facets({ values, isCounting, open, onOpen, expression, terms, hasAgents }: Props): ReactNode {
  return (
    <aside className={isCounting ? "facets dimmed" : "facets"} aria-label="Facets">
      {GROUPS.filter(({ name, isRare }) => !isRare || hasAgents || open.includes(name)).map((group) => (
        <div key={group.name} role="group" aria-labelledby={`facet-${group.name}`}>
          <h2 id={`facet-${group.name}`}>
            {open.includes(group.name) ? (
              group.label
            ) : (
              <button type="button" onClick={() => onOpen(group.name)}>
                <Icon name="caret-right-filled" size="small" /> {group.label}
              </button>
            )}
          </h2>
          {open.includes(group.name) && <Values group={group} values={values?.[group.name] ?? null} expression={expression} terms={terms} />}
        </div>
      ))}
    </aside>
  );
}

interface ValuesProps {
  group: Group;
  /** null: they are being counted. */
  values: ValueCount[] | null;
  expression: string;
  terms: readonly Term[];
}

function Values({ group, values, expression, terms }: ValuesProps): ReactNode {
  const [isWhole, setWhole] = useState(false);
  const isChosen = ({ value }: ValueCount): boolean => hasValue(terms, group.field, value, true);
  if (!values) return <p>…</p>;
  const sorted = [...values.filter(isChosen), ...values.filter((value) => !isChosen(value))];
  const most = Math.max(...values.map(({ count }) => count), 1);
  if (!values.length) return <p>None</p>;
  return (
    <>
      {sorted.slice(0, isWhole ? sorted.length : FEW).map((item) => (
        <Value key={item.value} group={group} item={item} share={item.count / most} expression={expression} terms={terms} isChosen={isChosen(item)} />
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
  expression: string;
  terms: readonly Term[];
  isChosen: boolean;
}

function Value({ group, item, share, expression, terms, isChosen }: ValueProps): ReactNode {
  const { value, count } = item;
  const text = visible(value) || "(empty)";
  const pick = (event: MouseEvent): void => {
    if (isChosen && !event.altKey) setExpression(withoutValue(terms, group.field, value));
    else setExpression(withValue(expression, group.field, value, !event.altKey));
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
        onClick={() => setExpression(withValue(expression, group.field, value, false))}
      >
        <Icon name="subtract-minus" size="small" />
      </button>
      <span className="numbers">{number(count)}</span>
    </div>
  );
}
