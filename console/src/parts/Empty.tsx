import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import { get, type Query } from "../api/client";
import type { Count, Health, NearestValues, Page, Term } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { changeQuery } from "../app/router";
import { type Conditions, NO_RANGE, setExpression, setRange } from "../filter/conditions";
import { allOf, comparison, literal, read } from "../filter/expression";
import { number, stamp } from "../text/time";
import { visible } from "../text/visible";
import { type Cause, causeOf, type Findings, type Likeness, type Removal } from "./emptyCause";
import { FirstEvent } from "./FirstEvent";

interface Props {
  conditions: Conditions;
  query: Query;
  cursor: string | null;
}

/** Says why there is nothing to show, and offers the step that shows something. */
export default function Empty({ conditions, query, cursor }: Props): ReactNode {
  const { zone } = usePreferences();
  const { data, error } = useCall((signal) => findings(conditions, query, signal), [query]);
  if (cursor) return <Step text="There are no events on this page." action="Newest events" onClick={() => changeQuery({ cursor: null })} />;
  if (error) return <Box>No events match.</Box>;
  if (!data) return <Spinner />;
  return <Reason cause={causeOf(data.findings)} zone={zone} terms={data.terms} />;
}

function Reason({ cause, zone, terms }: { cause: Cause; zone: string; terms: readonly Term[] }): ReactNode {
  switch (cause.kind) {
    case "never":
      return <FirstEvent />;
    case "value":
      return (
        <Step
          text={`No event has the ${cause.likeness.label} ${visible(cause.likeness.value)}. Did you mean ${visible(cause.likeness.nearest)} (${number(cause.likeness.events)} ${cause.likeness.events === 1 ? "event" : "events"})?`}
          action={`Search for ${visible(cause.likeness.nearest)}`}
          onClick={() => setExpression(withNearest(terms, cause.likeness))}
        />
      );
    case "range":
      return (
        <Step
          text={`No events match in this time range. The newest match is from ${stamp(cause.newest, zone)}.`}
          action="Search all time"
          onClick={() => setRange(NO_RANGE)}
        />
      );
    case "filter":
      return (
        <Step
          text={`No events match. Without ${cause.removal.label}, ${number(cause.removal.count)} ${cause.removal.count === 1 ? "matches" : "match"}.`}
          action={`Remove ${cause.removal.label}`}
          onClick={() => setExpression(cause.removal.expression)}
        />
      );
    case "scope":
      return (
        <Step
          text="No events match in this account and Region. Other accounts or Regions have some."
          action="All accounts and Regions"
          onClick={() => changeQuery({ account: null, region: null })}
        />
      );
    case "nothing":
      return (
        <Step
          text="No events match. An event shows up within a few seconds of its call; data events are hidden unless you choose them."
          action="Remove all filters"
          onClick={() => changeQuery({ expression: "", last: "all", since: null, until: null, categories: "all" })}
        />
      );
  }
}

function Step({ text, action, onClick }: { text: string; action: string; onClick: () => void }): ReactNode {
  return (
    <Box textAlign="center" padding="l">
      <SpaceBetween size="s">
        <Box>{text}</Box>
        <Button onClick={onClick}>{action}</Button>
      </SpaceBetween>
    </Box>
  );
}

async function findings(conditions: Conditions, query: Query, signal: AbortSignal): Promise<{ terms: readonly Term[]; findings: Findings }> {
  const { expression, range, account, region } = conditions;
  const { terms } = await read(expression, signal);
  const count = (other: Query): Promise<number> => get<Count>("events/count", { ...query, ...other }, signal).then(({ value }) => value);
  const hasRange = Boolean(range.last || range.since || range.until);
  const [health, likenesses, newest, elsewhere, ...removals] = await Promise.all([
    get<Health>("health", {}, signal),
    get<NearestValues>("events/nearest", { expression: query.expression }, signal),
    hasRange ? get<Page>("events/rows", { ...query, since: null, until: null, limit: 1 }, signal).then(({ events }) => events[0]?.eventTime ?? null) : null,
    account || region ? count({ account: null, region: null }) : 0,
    ...terms.map(async (term): Promise<Removal> => {
      const without = allOf(...terms.filter((other) => other !== term).map(({ text }) => text));
      return { expression: without, label: `“${visible(term.text)}”`, count: await count({ expression: without }) };
    }),
  ]);
  const findings = { events: health.events, newest, elsewhere, removals, nearest: likenesses.nearest[0] ?? null };
  return { terms, findings };
}

/** The search for another value. */
function withNearest(terms: readonly Term[], { value, nearest }: Likeness): string {
  const written = terms.map(({ text, field, operator, value: searched }) => {
    if (field && searched === literal(value)) return comparison(field, nearest, operator === "=");
    // Alternatives in parentheses.
    return field ? text : text.replace(comparison("", value), comparison("", nearest));
  });
  return allOf(...written);
}
